"""Byte-pair encoding, the algorithm: learning which pairs of tokens to merge, and merging them in a new word.

A word starts as one token per byte. Learning counts all pairs of neighbours, gives the most frequent pair a token of
its own, puts that token wherever the pair stands, and starts again: "t h e" becomes "th e", later "the". What is
learned is the list of pairs, in this order. Encoding does the same to a new word: of the pairs in it that were learned,
the one learned first is merged first.

Told like this, each merge reads all tokens again. Two things spare that. The tokens are a linked list, so that a merge
touches its own place and its two neighbours and nothing else; and a heap knows which merge is next. When a merge makes
an entry of the heap wrong, the entry stays where it is, and is recognised when its turn comes.

Sources: Gage, *A New Algorithm for Data Compression* (1994); Sennrich, Haddow and Birch, *Neural Machine Translation of
Rare Words with Subword Units* (2016); bytes instead of characters: Radford et al., *Language Models are Unsupervised
Multitask Learners* (2019), section 2.2.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise

Pair = tuple[int, int]

NOTHING = -1  # stands where there is no token: beyond the ends of a word, and where one was merged away


class Row:
    """Tokens in a row, of which any two neighbours can become one in constant time.

    The token at place i is token[i], its neighbours are at the places left[i] and right[i]. The row is a ring with one
    place of NOTHING between its end and its beginning, so that every place has two neighbours.
    """

    __slots__ = ("left", "right", "token")

    def __init__(self, tokens: Iterable[int]):
        self.token = [*tokens, NOTHING]
        self.left = list(range(-1, len(self.token) - 1))
        self.right = [*range(1, len(self.token)), 0]

    def merge(self, i: int, token: int) -> None:
        """Put `token` at place i, for what stands there and for its right neighbour, whose place is then empty."""
        gone = self.right[i]
        after = self.right[gone]
        self.token[i], self.token[gone] = token, NOTHING
        self.right[i], self.left[after] = after, i


def merge_word(word: Iterable[int], merges: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """The tokens of a word, given as the tokens of its bytes.

    merges  for each pair that was learned, its rank and the token that it becomes; the lowest rank is merged first

    A word of n bytes has fewer than n merges, each of which asks a heap for the next one: n log n steps in all.
    """
    row = Row(word)
    token, left, right = row.token, row.left, row.right
    heap = [(merges[pair][0], i) for i, pair in enumerate(pairwise(token)) if pair in merges]
    heapify(heap)
    while heap:
        rank, i = heappop(heap)  # of equal pairs the leftmost
        merge = merges.get((token[i], token[right[i]]))
        if merge is None or merge[0] != rank:
            continue  # one of the two has become part of another token
        row.merge(i, merge[1])
        for place in (left[i], i):
            if merge := merges.get((token[place], token[right[place]])):
                heappush(heap, (merge[0], place))
    return [t for t in token if t != NOTHING]


def learn(words: Mapping[bytes, int]) -> Iterator[tuple[Pair, int]]:
    """The pair to merge next and how often it occurs, again and again until every word is one token.

    words  how often each word occurs; each of its bytes is the token that it starts with

    The first pair becomes the token 256, the next one 257, and so on. Of equally frequent pairs that of the smaller
    tokens comes first. A merge takes as many steps as its pair has places: it changes the counts of the pairs beside
    these places, and of no others.
    """
    row = Row(token for word in words for token in (*word, NOTHING))  # all words in one
    token, left, right = row.token, row.left, row.right
    weight = [n for word, n in words.items() for _ in range(len(word) + 1)]  # how often the word of a place occurs

    count: defaultdict[Pair, int] = defaultdict(int)
    places: defaultdict[Pair, list[int]] = defaultdict(list)  # ascending, of the pair's left token; some are outdated
    for i, pair in enumerate(pairwise(token)):
        if NOTHING not in pair:
            count[pair] += weight[i]
            places[pair].append(i)
    heap = [(-n, pair) for pair, n in count.items()]
    heapify(heap)

    for new in itertools.count(256):
        while heap and count[heap[0][1]] != -heap[0][0]:  # counted before other merges took some of them
            pair = heappop(heap)[1]
            if count[pair]:
                heappush(heap, (-count[pair], pair))
        if not heap:
            return
        pair = heappop(heap)[1]
        yield pair, count[pair]

        met = set()
        for i in places.pop(pair):
            if (token[i], token[right[i]]) != pair:
                continue  # as in "aaa", where the first two have taken the second
            for place in (left[i], right[i]):
                count[token[place], token[right[place]]] -= weight[i]
            row.merge(i, new)
            for place in (left[i], i):
                beside = token[place], token[right[place]]
                if NOTHING not in beside:
                    count[beside] += weight[i]
                    places[beside].append(place)
                    met.add(beside)
        del count[pair]
        for beside in met:
            if count[beside]:  # not merged away again, by the merge of the next place
                heappush(heap, (-count[beside], beside))

"""cupy.cuda.MemoryPool: freed memory is kept in pieces, which are cut for smaller arrays and grow together again."""

from __future__ import annotations

from bisect import insort
from typing import Any

from . import gpu


class OutOfMemoryError(MemoryError):
    pass


class Piece:
    """A part of a segment of the device's memory: it knows its neighbours."""

    def __init__(self, address: int, size: int):
        self.address, self.size = address, size
        self.free = False
        self.left: Piece | None = None
        self.right: Piece | None = None


class Arena:
    """What a pool has of one device. `mallocs`: how often it had to ask the driver for a segment."""

    def __init__(self, device: int):
        self.device = device
        self.free: list[tuple[int, int, Piece]] = []  # by size, then by address
        self.used = self.total = self.mallocs = 0

    def take(self, nbytes: int) -> Piece:
        size = -(-max(nbytes, 1) // 512) * 512
        found = next((entry for entry in self.free if entry[0] >= size), None)
        if found is None:
            piece = self._segment(size)
        else:
            piece = found[2]
            self._unkeep(piece)
        if piece.size > size:
            rest = Piece(piece.address + size, piece.size - size)
            rest.left, rest.right, piece.right, piece.size = piece, piece.right, rest, size
            if rest.right:
                rest.right.left = rest
            self._keep(rest)
        self.used += size
        return piece

    def give(self, piece: Piece) -> None:
        self.used -= piece.size
        if piece.right is not None and piece.right.free:
            self._join(piece, piece.right)
        if piece.left is not None and piece.left.free:
            piece = self._join(piece.left, piece)
        self._keep(piece)

    def _join(self, left: Piece, right: Piece) -> Piece:
        for piece in (left, right):
            if piece.free:
                self._unkeep(piece)
        left.size, left.right = left.size + right.size, right.right
        if left.right:
            left.right.left = left
        return left

    def _keep(self, piece: Piece) -> None:
        piece.free = True
        insort(self.free, (piece.size, piece.address, piece))

    def _unkeep(self, piece: Piece) -> None:
        piece.free = False
        self.free.remove((piece.size, piece.address, piece))

    def _segment(self, size: int) -> Piece:
        machine = gpu.here
        if machine.reserved[self.device] + size > machine.memory:
            self.release()
        if machine.reserved[self.device] + size > machine.memory:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: {self.total:,} bytes).")
        machine.reserved[self.device] += size
        machine.mallocs.append(size)
        machine.addresses += size
        self.total, self.mallocs = self.total + size, self.mallocs + 1
        return Piece(machine.addresses - size, size)

    def release(self) -> None:
        """Segments that are free as a whole go back to the device."""
        for entry in [e for e in self.free if e[2].left is None and e[2].right is None]:
            self.free.remove(entry)
            self.total -= entry[0]
            gpu.here.reserved[self.device] -= entry[0]


class MemoryPointer:
    """cupy.cuda.MemoryPointer: memory that goes back to its pool when nobody has it any more."""

    def __init__(self, arena: Arena, nbytes: int):
        self.arena, self.piece, self.ptr = arena, arena.take(nbytes), 0
        self.ptr = self.piece.address

    def __del__(self) -> None:
        if hasattr(self, "piece") and insort is not None:  # None: the interpreter is about to end
            self.arena.give(self.piece)


class MemoryPool:
    """cupy.cuda.MemoryPool, of each device its own. The real one keeps memory of each stream apart, too."""

    def __init__(self, allocator: Any = None):
        self.arenas: dict[int, Arena] = {}

    @property
    def _here(self) -> Arena:
        return self.arenas.setdefault(gpu.here.current, Arena(gpu.here.current))

    def malloc(self, size: int) -> MemoryPointer:
        return MemoryPointer(self._here, size)

    def used_bytes(self) -> int:
        return self._here.used

    def total_bytes(self) -> int:
        return self._here.total

    def free_bytes(self) -> int:
        return self._here.total - self._here.used

    def n_free_blocks(self) -> int:
        return len(self._here.free)

    def free_all_blocks(self, stream: Any = None) -> None:
        self._here.release()

"""The page of the chat, in a browser and against the real server."""

import time

import pytest
from browser import browse, needs_browser
from test_chat_server import HOST, serving

from gpt.template import Template

# No text ends an answer.
ENDLESS = Template(prompt="{instruction} A ", prompt_with_input="{instruction} {input} A ", between=" ")


def until(page, expression, seconds=30):
    end = time.monotonic() + seconds
    while not page.js(expression):
        assert time.monotonic() < end, page.js("document.body.innerText")
        time.sleep(0.02)


def say(page, text):
    page.js(f"byId('question').value = {text!r}; byId('form').requestSubmit()")


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_chat_on_the_page(dark: bool):
    dark_flag = ["--blink-settings=preferredColorScheme=0"] if dark else []
    with serving(template=ENDLESS) as port, browse(f"http://{HOST}:{port}/", *dark_flag) as page:
        until(page, "byId('about').textContent.startsWith('small: ')")
        assert (page.js("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)") == dark
        page.js("byId('seed').value = 1")
        say(page, "hello")
        until(page, "messages.length === 2 && !stopper")
        assert page.js("messages[0].content") == "hello" and len(page.js("messages[1].content")) <= 8
        assert page.js("document.querySelectorAll('.token').length") == 8

        # What the model thought of a letter, when one points at it.
        page.js("document.querySelector('.token').dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))")
        assert page.js("byId('likely').hidden") is False
        assert page.js("document.querySelectorAll('#likely tr').length") in (8, 9)
        assert page.js("document.querySelector('#likely .chosen td').textContent") == page.js(
            "shown(document.querySelector('.token').textContent)"
        )

        # An answer that would take for ever is stopped by the button, and the chat goes on from what there is.
        page.js("byId('tokens').value = 1000000")
        say(page, "on")
        until(page, "document.querySelectorAll('.token').length > 20")
        assert page.js("byId('send').textContent") == "Stop"
        page.js("byId('send').click()")
        until(page, "!stopper")
        assert page.js("messages.length") == 4 and "Stopped." in page.js("said.innerText")
        assert page.js("messages[3].content.length") >= 12

        page.js("byId('tokens').value = 2")
        say(page, "\xe9")
        until(page, "document.querySelector('.bad') !== null && !stopper")
        assert "cannot encode" in page.js("document.querySelector('.bad').textContent")
        assert page.js("messages.length") == 4
        page.js("byId('reset').click()")
        assert page.js("messages.length") == 0 and page.js("said.childElementCount") == 0
        own = f"http://{HOST}:{port}/"
        assert all(url.startswith((own, "data:")) for url in page.requests)
        assert len(page.errors) == 1 and "400" in page.errors[0]  # the browser's own note of the refusal

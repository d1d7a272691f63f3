"""Talking with a trained GPT, in the terminal or through a server: `python -m gpt.chat --model runs/NAME`."""

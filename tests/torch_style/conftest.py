"""The programs beside this file belong to PyTorch: pytest shall not import them in search of doctests."""

collect_ignore_glob = ["*.py"]

"""Switches that PyTorch programs set. There is nothing behind them: they can be written and read, and that is all."""

from types import SimpleNamespace

cuda = SimpleNamespace(matmul=SimpleNamespace(allow_tf32=False))
cudnn = SimpleNamespace(allow_tf32=False, benchmark=False, deterministic=True, enabled=False)

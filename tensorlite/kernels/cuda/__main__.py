"""Compile all kernels without a GPU: `python -m tensorlite.kernels.cuda` prints what each takes."""

from .nvrtc import compile_all


def main() -> None:
    print(f"{'kernel':<34}{'dtype':<10}{'for':<8}{'registers':>10}{'spilled':>9}{'shared':>8}")
    for use in compile_all():
        name = f"{use.family}.{use.kernel}"
        print(f"{name:<34}{use.dtype:<10}{use.architecture:<8}{use.registers:>10}{use.spilled:>9}{use.shared:>8}")


if __name__ == "__main__":
    main()

"""Start-up hook: registers this pack when spandrel is imported, and not before.

Installed as a module of its own beside a `.pth` file that imports it at every start
of Python, so it needs the standard library alone and costs next to nothing. Whatever
goes wrong in here is printed on stderr and never reaches the host.
"""

import os
import sys

OPT_OUT = "PARAGON_ARCHS_NO_HOOK"


class SpandrelFinder:
    """Finds `spandrel` as Python would, and adds a step after its execution.

    Attributes:
        postponed: Whether the pack's own import of spandrel set it off; then the pack
            registers itself when that import ends.
    """

    postponed = False

    @staticmethod
    def find_spec(name, path=None, target=None):  # noqa: ANN001, ANN205 (Python's own)
        """Returns spandrel's spec with our step behind; None for anything else."""
        if name != "spandrel":
            return None
        from importlib.machinery import PathFinder  # noqa: PLC0415 (not at start-up)

        spec = PathFinder.find_spec(name, path, target)
        loader = spec.loader if spec is not None else None
        if loader is None or not hasattr(loader, "exec_module"):
            return None
        execute = loader.exec_module

        def execute_and_install(module) -> None:  # noqa: ANN001 (a module)
            execute(module)
            loaders = sys.modules.get("paragon_archs.loaders")
            if loaders is not None and not hasattr(loaders, "install"):
                SpandrelFinder.postponed = True  # stays, for the pack to see it
                return
            if SpandrelFinder in sys.meta_path:
                sys.meta_path.remove(SpandrelFinder)
            try:
                # Only our own: the host adds spandrel's extra architectures itself,
                # and a duplicate would stop it.
                from paragon_archs.loaders import install  # noqa: PLC0415

                install()
            except Exception as error:
                # A broken pack must never break the host: the one place where every
                # error is caught.
                print(
                    f"paragon_archs: not registered ({type(error).__name__}: {error})",
                    file=sys.stderr,
                )

        loader.exec_module = execute_and_install
        return spec


def arm() -> None:
    """Puts the finder first; does nothing when opted out or when it is there."""
    if not os.environ.get(OPT_OUT) and SpandrelFinder not in sys.meta_path:
        sys.meta_path.insert(0, SpandrelFinder)


arm()

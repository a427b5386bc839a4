# SPDX-License-Identifier: Apache-2.0
"""What the emulated host needs to run scenarios directly, as a machine with KVM of its own does: the testbed's programs and its cache of images,
which are up to date there, so that nothing is built or downloaded."""

from pathlib import Path

from . import guest_image
from .cache import Cache
from .kernel import fetch_kernel
from .shell import find_tool

HERE = Path(__file__).resolve().parent.parent
# In the emulated host; runner/direct_cases.py knows them, too.
TESTBED, CACHE, BUILD = "/opt/direct/testbed", "/opt/direct/cache", "/opt/direct/build"
YAML = Path("/usr/lib/python3/dist-packages/yaml")


def files(cache: Cache, build_dir: Path) -> list[tuple[Path, str]]:
    with cache.locked():
        kernel = fetch_kernel(cache)
        agent = guest_image.build_agent(cache)
        guest = [agent, guest_image.build_initramfs(cache, kernel, agent), guest_image.build_root_disk(cache, agent)]
        data = guest_image.build_data_disk(cache)
    tree = kernel.modules.parent.parent.parent
    modules = kernel.module_order(guest_image.GUEST_MODULES)
    of_kernel = [kernel.bzimage, kernel.vmlinux, kernel.modules / "modules.dep", kernel.modules / "modules.builtin", *modules]
    kept = [*of_kernel, *guest]
    stamps = [path.with_name(path.name + ".inputs") for path in (tree, *guest, data)]
    sources = [path for pattern in ("*.py", "scenario", "guest/*", "outer/*") for path in HERE.rglob(pattern) if path.is_file()]
    return [*((path, f"{CACHE}/{path.relative_to(cache.root)}") for path in (*kept, *stamps)),
            *((path, f"{TESTBED}/{path.relative_to(HERE)}") for path in sources if "__pycache__" not in path.parts),
            *((path, f"/usr/lib/python3/dist-packages/yaml/{path.name}") for path in YAML.glob("*.py")),
            (build_dir / "bin/balloon-sim", f"{BUILD}/bin/balloon-sim"), (Path("/etc/os-release").resolve(), "/etc/os-release"),
            (Path(find_tool("mke2fs")), "/usr/sbin/mke2fs")]

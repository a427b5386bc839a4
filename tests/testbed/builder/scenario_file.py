# SPDX-License-Identifier: Apache-2.0
"""Reads a scenario's YAML (and refuses a key given twice); the host that runs it gets JSON."""

from pathlib import Path

from .errors import TestbedError


def load(path: Path):
    try:
        import yaml
    except ImportError:
        raise TestbedError("python3-yaml is missing (scripts/install-deps.sh installs it)")

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader, node):
        keys = [loader.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise TestbedError(f"{path}:{node.start_mark.line + 1}: key '{key}' is given twice")
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        return yaml.load(path.read_text(), Loader)
    except OSError as error:
        raise TestbedError(f"cannot read scenario {path}: {error.strerror}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TestbedError(f"{path} is not YAML: {error}")

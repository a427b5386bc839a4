# SPDX-License-Identifier: Apache-2.0
"""The shipped JSON Schemas and the programs that load the files agree: each file of the corpus goes through both.

policies/ are policy files, for `balloonctl policy check`; daemons/ are the daemon's, for `balloond --print-effective-config`.
  good/         both take it
  bad/          both refuse it
  loader-only/  only the loader can see what is wrong; the file says why
A bad file lists the loader's complaints, all of them, as "# refused: LINE:COLUMN: what"; a line written +N is the
N-th below these comments, and {dir} is the file's directory.
"""
import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import jsonschema
import yaml

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parents[2] / "config"
BALLOONCTL = os.environ["BALLOONCTL"]
BALLOOND = os.environ["BALLOOND"]
BALLOON_VMM = os.environ["BALLOON_VMM"]


class Yaml12(yaml.SafeLoader):
    """What editors read: YAML 1.2's core schema, in which on, 22:00 and 0660 are no booleans, sums or octals."""


Yaml12.yaml_implicit_resolvers = {}
for tag, pattern, first in [
        ("bool", r"^(?:true|false)$", "tf"), ("null", r"^(?:~|null|)$", ["~", "n", ""]),
        ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
        ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789")]:
    Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


def schema(name):
    text = json.loads((CONFIG / "schema" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(text)
    return text


def schema_complaints(validator, file, reader=Yaml12):
    document = yaml.load(file.read_text(), reader)
    return [error.message for error in validator.iter_errors({} if document is None else document)]


def policy_complaints(file):
    done = subprocess.run([BALLOONCTL, "policy", "check", "--host-memory", "8GiB", "-o", "json", str(file)],
                          capture_output=True, text=True, timeout=60)
    answer = json.loads(done.stdout)
    assert (done.returncode == 0) == answer["good"], done
    places = [f"{c['line']}:{c['column']}: " if c["line"] else "" for c in answer["complaints"]]
    return [place + c["text"] for place, c in zip(places, answer["complaints"])]


def daemon_complaints(file):
    """The loader's alone: --check-config would also say which backend is not installed here."""
    done = subprocess.run([BALLOOND, "--print-effective-config", "--config", str(file)], capture_output=True,
                          text=True, timeout=60)
    assert (done.returncode == 0) == (done.stdout != ""), done
    return [line.removeprefix(f"{file}:") for line in done.stderr.splitlines()]


def guest_complaints(file):
    done = subprocess.run([BALLOON_VMM, "--check-config", "--config", str(file)], capture_output=True, text=True,
                          timeout=60)
    assert (done.returncode == 0) == (done.stdout == "ok\n"), done
    return [line.removeprefix("balloon-vmm: ").removeprefix(f"{file}:") for line in done.stderr.splitlines()]


def expected_complaints(file):
    lines = file.read_text().splitlines()
    head = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    out = []
    for line in lines[:head]:
        if not line.startswith("# refused: "):
            continue
        complaint = line.removeprefix("# refused: ").replace("{dir}", str(file.parent))
        out.append(re.sub(r"^\+(\d+)", lambda match: str(head + int(match[1])), complaint))
    return out


class Corpus(unittest.TestCase):
    KINDS = [("policies", "policy", policy_complaints), ("daemons", "balloond", daemon_complaints)]
    SHIPPED = [("policy", policy_complaints), ("balloond", daemon_complaints), ("guest", guest_complaints)]

    def check(self, folder, judge):
        for directory, name, loader in self.KINDS:
            validator = jsonschema.Draft202012Validator(schema(name))
            files = sorted((HERE / directory / folder).glob("*.yaml"))
            self.assertTrue(files, f"{directory}/{folder} is empty")
            for file in files:
                with self.subTest(file=f"{directory}/{folder}/{file.name}"):
                    judge(file, loader(file), schema_complaints(validator, file))

    def test_what_is_good_is_taken_by_both(self):
        def judge(_, by_loader, by_schema):
            self.assertEqual(by_loader, [])
            self.assertEqual(by_schema, [])
        self.check("good", judge)

    def test_what_is_bad_is_refused_by_both_with_every_complaint(self):
        def judge(file, by_loader, by_schema):
            self.assertEqual(sorted(by_loader), sorted(expected_complaints(file)))
            self.assertTrue(by_schema, "the schema takes it")
        self.check("bad", judge)

    def test_what_only_the_loader_can_refuse_it_refuses_with_every_complaint(self):
        def judge(file, by_loader, by_schema):
            self.assertIn("# only the loader: ", file.read_text().splitlines()[0])
            self.assertEqual(sorted(by_loader), sorted(expected_complaints(file)))
            self.assertEqual(by_schema, [], "the schema sees it too: move it to bad/")
        self.check("loader-only", judge)

    def test_the_shipped_files_are_taken_by_both_as_yaml_1_1_and_1_2(self):
        for name, loader in self.SHIPPED:
            file = CONFIG / f"{name}.yaml"
            validator = jsonschema.Draft202012Validator(schema(name))
            self.assertEqual(loader(file), [])
            for reader in (Yaml12, yaml.SafeLoader):
                self.assertEqual(schema_complaints(validator, file, reader), [], reader)

    def test_the_shipped_files_name_their_schema_where_it_is_installed(self):
        for name, _ in self.SHIPPED:
            line = (CONFIG / f"{name}.yaml").read_text().splitlines()[0]
            self.assertEqual(line, "# yaml-language-server: $schema=/usr/share/balloond/schema/"
                                   f"{name}.schema.json")

    def test_booleans_pass_the_schema_as_yaml_1_1_reads_them(self):
        validator = jsonschema.Draft202012Validator(schema("policy"))
        file = HERE / "policies" / "good" / "booleans.yaml"
        self.assertEqual(schema_complaints(validator, file, yaml.SafeLoader), [])


class Effective(unittest.TestCase):
    def effective(self, config):
        done = subprocess.run([BALLOOND, "--print-effective-config", "--config", str(config)], capture_output=True,
                              text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_what_is_printed_is_complete_and_means_the_same(self):
        """Printed, loaded and printed again it is the same, whatever policy it comes from."""
        policies = [CONFIG / "policy.yaml", *sorted((HERE / "policies" / "good").glob("*.yaml"))]
        self.assertGreater(len(policies), 10)
        for policy in policies:
            with self.subTest(policy=policy.name), tempfile.TemporaryDirectory() as directory:
                config = Path(directory) / "balloond.yaml"
                config.write_text(f"policy: {policy}\nbackends: {{qmp: [{{directory: /run/x, exclusive: on}}]}}\n"
                                  "journal: {directory: /var/lib/x}\nmetrics: {listen: \"[::1]:9477\"}\n")
                printed = self.effective(config)
                daemon, of_policy = printed.split("---\n")
                for name, text in [("balloond", daemon), ("policy", of_policy)]:
                    validator = jsonschema.Draft202012Validator(schema(name))
                    self.assertEqual([e.message for e in validator.iter_errors(yaml.load(text, Yaml12))], [], text)
                self.assertIn("margin_factor", of_policy)
                again = Path(directory) / "again.yaml"
                again.write_text(of_policy)
                config.write_text(daemon.replace(str(policy), str(again)))
                self.assertEqual(self.effective(config).replace(str(again), str(policy)), printed)


class Docs(unittest.TestCase):
    DOCS = (CONFIG.parent / "docs" / "configuration.md").read_text()

    def test_every_example_is_taken_by_both(self):
        examples = re.findall(r"^```yaml\n(.*?)^```", self.DOCS, re.MULTILINE | re.DOTALL)
        self.assertGreaterEqual(len(examples), 5, "the cookbook has five cases")
        validator = jsonschema.Draft202012Validator(schema("policy"))
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "policy-next.yaml").touch()
            for example in examples:
                with self.subTest(example=example):
                    file = Path(directory) / "example.yaml"
                    file.write_text(example)
                    self.assertEqual(policy_complaints(file), [])
                    self.assertEqual(schema_complaints(validator, file), [])

    def test_every_key_is_documented(self):
        def keys(node):
            if isinstance(node, list):
                return {key for item in node for key in keys(item)}
            if not isinstance(node, dict):
                return set()
            own = set(node["properties"]) if isinstance(node.get("properties"), dict) else set()
            return own | {key for value in node.values() for key in keys(value)}
        for name in ["policy", "balloond"]:
            for key in sorted(keys(schema(name))):
                self.assertRegex(self.DOCS, rf"\b{key}\b", f"{key} of {name}.schema.json is not documented")


class Keys(unittest.TestCase):
    """The schema names the keys that the loader asks for, no more and no fewer."""

    UNKNOWN = "qqqqqqqqqqqqqqqqqqqq"
    PLACES = {
        "{KEY: 1}": [],
        "host: {KEY: 1}": ["host"],
        "engine: {KEY: 1}": ["engine"],
        "states: {KEY: 1}": ["states"],
        "states: {actions: {KEY: 1}}": ["states", "actions"],
        "states: {actions: {tight: {KEY: 1}}}": ["states", "actions", "tight"],
        "defaults: {KEY: 1}": ["defaults"],
        "defaults: {schedules: [{when: [{days: [mon]}], weight: 5, KEY: 1}]}": ["defaults", "schedules"],
        "defaults: {schedules: [{when: [{days: [mon], KEY: 1}], weight: 5}]}": ["defaults", "schedules", "when"],
        "groups: [{name: a, KEY: 1}]": ["groups"],
        "groups: [{name: a, each: {KEY: 1}}]": ["groups", "each"],
        "groups: [{name: a, schedules: [{when: [{days: [mon]}], weight: 5, KEY: 1}]}]": ["groups", "schedules"],
        "guests: [{name: a, KEY: 1}]": ["guests"],
    }

    def keys_of_schema(self, path, name="policy"):
        whole = node = schema(name)
        for key in path:
            node = node["properties"][key]
            node = node.get("items", node)
            if "$ref" in node:
                node = whole["$defs"][node["$ref"].rsplit("/", 1)[1]]
        self.assertFalse(node["additionalProperties"])
        for key, value in node["properties"].items():
            self.assertTrue(value.get("description") or "$ref" in value, f"{key} says nothing to editors")
        return sorted(node["properties"])

    GUEST_PLACES = {
        "{KEY: 1}": [],
        "memory_backing: {KEY: 1}": ["memory_backing"],
        "disks: [{path: /x, KEY: 1}]": ["disks"],
        "disks: [{path: /x, rate: {KEY: 1}}]": ["disks", "rate"],
        "nets: [{tap: t, KEY: 1}]": ["nets"],
        "nets: [{tap: t, rate: {KEY: 1}}]": ["nets", "rate"],
        "rng: {KEY: 1}": ["rng"],
        "balloon: {KEY: 1}": ["balloon"],
    }

    def test_the_guests_schema_has_the_keys_of_balloon_vmm(self):
        for text, path in self.GUEST_PLACES.items():
            with self.subTest(text=text):
                with tempfile.TemporaryDirectory() as directory:
                    file = Path(directory) / "g.yaml"
                    file.write_text(text.replace("KEY", self.UNKNOWN) + "\n")
                    complaints = [line for line in guest_complaints(file) if "unknown key" in line]
                self.assertEqual(len(complaints), 1, complaints)
                expected = complaints[0].split("expected one of ")[1].split(", ")
                self.assertEqual(sorted(expected), self.keys_of_schema(path, "guest"))

    def test_the_schema_has_the_loaders_keys(self):
        for text, path in self.PLACES.items():
            with self.subTest(text=text):
                with tempfile.TemporaryDirectory() as directory:
                    file = Path(directory) / "p.yaml"
                    file.write_text(text.replace("KEY", self.UNKNOWN) + "\n")
                    complaints = policy_complaints(file)
                self.assertEqual(len(complaints), 1, complaints)
                expected = complaints[0].split("expected one of ")[1].split(", ")
                self.assertEqual(sorted(expected), self.keys_of_schema(path))


if __name__ == "__main__":
    unittest.main()

"""The committed bundles of what runs in the browser belong to the sources in `web/`."""

import hashlib
import json
import re

import pytest
from conftest import ROOT

BUNDLES = ROOT / "lib" / "panelbook" / "publish" / "web"
RECORD = dict(
    reversed(line.split("  ", 1))
    for line in (BUNDLES / "SOURCES.sha256").read_text(encoding="utf-8").splitlines()
)


def test_the_bundles_were_made_from_the_sources_as_they_are():
    for name, digest in RECORD.items():
        assert hashlib.sha256((ROOT / "web" / name).read_bytes()).hexdigest() == digest, (
            f"web/{name} has changed since lib/panelbook/publish/web was made of it. Run `make web`."
        )


def test_no_source_is_missing_from_the_record():
    sources = {
        path.relative_to(ROOT / "web").as_posix()
        for path in (ROOT / "web" / "src").rglob("*")
        if path.is_file() and not re.search(r"\.test\.tsx?$", path.name)
    }
    assert sources == {name for name in RECORD if name.startswith("src/")}


@pytest.mark.parametrize("name", ["explorer.js", "dials.js"])
def test_a_bundle_names_no_host_and_loads_nothing(name):
    code = (BUNDLES / name).read_text(encoding="utf-8")
    hosts = set(re.findall(r"https?://([\w.-]+)", code)) - {"www.w3.org"}  # namespaces, which nobody asks for
    assert hosts <= {"temml.org", "preactjs.com", "github.com"}, hosts  # in notices of licences
    assert not re.search(r"XMLHttpRequest|WebSocket|\bimport\(|\beval\(", code)


def test_every_front_end_package_is_pinned():
    lock = json.loads((ROOT / "web" / "package-lock.json").read_text(encoding="utf-8"))
    wanted = json.loads((ROOT / "web" / "package.json").read_text(encoding="utf-8"))
    for name in (*wanted["dependencies"], *wanted["devDependencies"]):
        assert lock["packages"][f"node_modules/{name}"]["version"], name


def test_the_explorer_may_ask_nobody_for_anything():
    page = (BUNDLES / "explorer.html").read_text(encoding="utf-8")
    policy = re.search(r"Content-Security-Policy\"\s+content=\"([^\"]+)\"", page)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";") if rule.strip())
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules

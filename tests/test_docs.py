"""The documentation: it builds without warnings, its commands and links are there."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))

LAUNCHERS = {
    "torchrun": "torch.distributed.run",
    "accelerate launch": "accelerate.commands.launch",
}
PLAIN = {"head", "(head"}
"""Commands of the system; nothing of ours to compare them with."""

SHELLS = {"bash", "sh", "shell", "console"}
COMMANDS = {"python", "pip", "make", "torchrun", "accelerate", "srun", "ACCELERATE_USE_CPU=true"}
COMMANDS |= PLAIN


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def shell_blocks(text: str) -> list[str]:
    """The fenced blocks of a shell, and those without a language that begin with a command."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [
        block
        for language, block in blocks
        if language in SHELLS or (not language and block.split()[0] in COMMANDS)
    ]


def commands(page: str) -> list[list[str]]:
    """The words of each command in the page's shell blocks."""
    lines = [
        line
        for block in shell_blocks(text_of(page))
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@cache
def help_of(*command: str) -> str:
    """What a command says for --help, its colours left out."""
    done = subprocess.run(
        [sys.executable, *command, "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        check=True,
    )
    return done.stdout


def assert_flags(words: list[str], shown: str) -> None:
    known = set(re.findall(r"--[a-z][\w-]*", shown))
    known |= {flag.replace("_", "-") for flag in known}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{word} of: {' '.join(words)}"


def check(words: list[str], repository: Path) -> str:
    """Check one command; returns what kind it was."""
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[0] == "srun":
        words = words[words.index("torchrun") :]
    for launcher, module in LAUNCHERS.items():
        if " ".join(words).startswith(launcher + " "):
            words = words[len(launcher.split()) :]
            at = next(i for i, word in enumerate(words) if word.endswith(".py"))
            assert_flags(words[:at], help_of("-m", module))
            words = ["python", *words[at:]]
    if words[:2] == ["pip", "install"]:
        declared = (repository / "pyproject.toml").read_text()
        for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)):
            assert all(f"\n{name} = [" in declared for name in extra.split(",")), extra
        return "pip"
    if words[0] == "make":
        rules = (repository / "Makefile").read_text()
        assert all(f"\n{target}:" in rules for target in words[1:] if "=" not in target)
        return "make"
    if words[0] == "python":
        tool, arguments = repository / words[1], words[2:]
        assert tool.is_file(), words[1]
        has_commands = tool.name == "make_shards.py"
        shown = help_of(str(tool), *arguments[:1]) if has_commands else help_of(str(tool))
        assert_flags(arguments, shown + " --config" * (tool.name == "train.py") + " --help")
        for word in arguments:
            if word.startswith("configs/"):
                assert (repository / word).is_file(), word
        return "tool"
    assert words[0] in PLAIN, f"no check for the command: {' '.join(words)}"
    return "plain"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_takes_the_flags_that_the_page_gives_it(page: str, repository: Path) -> None:
    for words in commands(page):
        check(words, repository)


def test_commands_are_found_and_wrong_ones_noticed(repository: Path) -> None:
    kinds = [check(words, repository) for page in PAGES for words in commands(page)]
    written = sum(text_of(page).count("\npython tools/") for page in PAGES)
    assert kinds.count("tool") >= written > 20
    for wrong in (
        "python tools/train.py --learning-rate 1",
        "python tools/make_shards.py docvqa --sauce hub",
        "python tools/nothing.py",
        "torchrun --processes 8 tools/train.py",
        "pip install 'florence-docs[nothing]'",
        "make nothing",
        "somewhat --else",
    ):
        with pytest.raises((AssertionError, subprocess.CalledProcessError)):
            check(shlex.split(wrong), repository)


def test_the_quick_start_runs_as_written(
    run_tool: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of its commands but the demo's, with four steps of training."""
    monkeypatch.chdir(tmp_path)
    tools = [words for words in commands("quick-start.md") if words[0] == "python"]
    assert [Path(words[1]).name for words in tools] == [
        *("make_shards.py", "make_shards.py", "train.py", "predict.py", "predict.py"),
        *("score.py", "score.py", "demo.py"),
    ]
    for words in tools[:-1]:
        words = ["4" if word == "150" else word for word in words]
        outcome = run_tool(Path(words[1]).name, *words[2:])
        assert (outcome.code, outcome.err) == (0, ""), words
    assert (tmp_path / "scores" / "val" / "summary.json").is_file()
    demo = tools[-1]
    assert (tmp_path / demo[demo.index("--model") + 1] / "model").is_dir()
    assert (tmp_path / demo[demo.index("--data") + 1] / "dataset.json").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text_of(page)):
        path, _, anchor = link.partition("#")
        target = (DOCS / path).resolve() if path else DOCS / page
        assert target.exists(), link
        if anchor and target.name != "api.md":
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            slugs = [re.sub(r"[^\w\- ]", "", each).strip().lower() for each in headings]
            assert anchor in [slug.replace(" ", "-") for slug in slugs], link


def test_every_page_is_in_the_navigation(repository: Path) -> None:
    site = yaml.safe_load((repository / "mkdocs.yml").read_text())

    def files(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        values = entry.values() if isinstance(entry, dict) else entry
        return [file for value in values for file in files(value)]

    assert sorted(files(site["nav"])) == PAGES


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(
    repository: Path, tmp_path: Path
) -> None:
    for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            pytest.skip("needs the extra docs: mkdocs-material and mkdocstrings")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=repository,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr

    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|img|iframe)[^>]*\ssrc=\"(?:https?:)?//", html), page
        assert not re.search(r"<link[^>]*rel=\"(?:stylesheet|preconnect)\"[^>]*//", html), page
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(\"?(?:https?:)?//", style.read_text(encoding="utf-8")), style
    api = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    for name in ("sample.Sample", "sample_set.SampleSet", "shard_writer.ShardWriter"):
        assert f'id="florence_data.{name}"' in api
    for name in ("florence_train.config.TrainConfig", "florence_eval.scores.score"):
        assert f'id="{name}"' in api

"""The scripts are imported as they import each other: from their folder."""

import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.append(str(SCRIPTS))


@pytest.fixture
def run_script(monkeypatch, capsys):
    """Return run_script(NAME, *WORDS): call the script's main() with arguments and return the JSON rows it prints."""

    def run(name: str, *words: str) -> list[dict]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        capsys.readouterr()
        __import__(name).main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run

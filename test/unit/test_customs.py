"""What formula repositories have by custom says the truth: FORMULA, kitchen.yml, the CI file, the page of settings."""

import re

import pytest
import yaml

from _modules import chatmail_settings
from test.salt.minion import CHECKOUT
from tools import functions_reference, settings_reference

MAKEFILE = (CHECKOUT / "Makefile").read_text()
SALT = re.search(r"(?m)^salt==(\S+)$", (CHECKOUT / "requirements.txt").read_text())[1]
FORMULA = yaml.safe_load((CHECKOUT / "FORMULA").read_text())
KITCHEN = yaml.safe_load(
    re.sub(r"<%= ENV\.fetch\('\w+', '([^']*)'\) %>", r"\1", (CHECKOUT / "kitchen.yml").read_text())
)
WORKFLOW = yaml.safe_load((CHECKOUT / ".github/workflows/test.yml").read_text())
# The options of kitchen-salt's provisioner that are of use here (its page "Provisioner Options"), and Kitchen's own.
PROVISIONER_OPTIONS = {
    *("name", "sudo", "require_chef", "salt_install", "install_after_init_environment", "init_environment"),
    *("is_file_root", "salt_copy_filter", "pillars_from_files", "pillars", "state_top", "salt_minion_extra_config"),
}


def make_targets(commands: str) -> set[str]:
    """The targets of the `make` commands among these lines."""
    return {word for line in re.findall(r"(?m)^make (.*)$", commands) for word in line.split() if "=" not in word}


def existing_targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z-]+):", MAKEFILE))


def test_formula_names_what_is_there():
    assert (CHECKOUT / FORMULA["top_level_dir"] / "init.sls").exists()
    version = re.search(r'(?m)^version = "(.+)"$', (CHECKOUT / "chatmaild/pyproject.toml").read_text())[1]
    assert FORMULA["version"] == version
    assert re.search(r"(?m)^(\d+\.\d+\.\d+)\b", (CHECKOUT / "CHANGELOG.rst").read_text())[1] == version
    assert SALT.startswith(f"{FORMULA['minimum_version']}.")


def test_kitchen_uses_options_that_kitchen_salt_has():
    assert set(KITCHEN) == {"driver", "transport", "provisioner", "platforms", "suites", "verifier"}
    assert set(KITCHEN["provisioner"]) <= PROVISIONER_OPTIONS
    assert KITCHEN["provisioner"]["salt_install"] == "none"
    assert f"salt=={SALT}\n" in KITCHEN["provisioner"]["init_environment"]


def test_kitchen_applies_states_that_exist_with_a_pillar_that_is_right():
    provisioner = KITCHEN["provisioner"]
    for sls in provisioner["state_top"]["base"]["*"]:
        assert (CHECKOUT / sls / "init.sls").exists()
    for needed in ("chatmail", "chatmaild", "_modules", "_states", "_utils"):
        assert needed not in provisioner["salt_copy_filter"]
    schema = yaml.safe_load((CHECKOUT / "chatmail/defaults.yaml").read_text())
    for name in provisioner["pillars"]["top.sls"]["base"]["*"]:
        pillar = yaml.safe_load((CHECKOUT / provisioner["pillars_from_files"][f"{name}.sls"]).read_text())
        assert chatmail_settings.problems(schema, pillar["chatmail"]) == []


@pytest.mark.parametrize(
    "commands",
    [KITCHEN["verifier"]["command"]]
    + [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step],
)
def test_commands_of_make_exist(commands):
    assert make_targets(commands) <= existing_targets()


def test_ci_runs_all_of_make_test():
    jobs = "\n".join(step.get("run", "") for job in WORKFLOW["jobs"].values() for step in job["steps"])
    assert make_targets(jobs) == set(re.search(r"(?m)^test: ([a-z ]+?) *##", MAKEFILE)[1].split())


def test_functions_that_operators_are_told_of_exist():
    pages = [*(CHECKOUT / "docs").glob("*.md"), CHECKOUT / "README.rst", CHECKOUT / "pillar.example"]
    pages.append(CHECKOUT / "chatmail/monitoring/prometheus/alerts.yml")
    named = {name for page in pages for name in re.findall(r"\b(chatmail_\w+)\.(?!py\b)(\w+)", page.read_text())}
    assert len(named) > 10
    for module, function in named:
        sources = [CHECKOUT / directory / f"{module}.py" for directory in ("_modules", "_wrapper", "_states")]
        found = "".join(source.read_text() for source in sources if source.exists())
        assert re.search(rf"(?m)^def {function}_?\(", found), f"{module}.{function}"


def test_the_page_of_settings_is_made_from_the_schema():
    assert settings_reference.PAGE.read_text() == settings_reference.current(), "run make docs"


def test_the_page_of_functions_names_all_that_can_be_called():
    page = functions_reference.PAGE.read_text()
    assert functions_reference.named(page) == functions_reference.named(functions_reference.current()), "run make docs"

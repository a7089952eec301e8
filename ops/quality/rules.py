"""Which limits and severities of the rules differ from the list in storage/expectations/rules.py.

A file of rules is TOML with one table for each changed rule, `[<asset>.<rule>]`, and in it any of
`severity` ("block", "warn" or "off"), `low`, `high` and `allowed`:

    [trajectories.speed_in_range]
    high = 45.0
    severity = "warn"
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ops.quality.config import QualityConfig
from storage.artifact import code_version_of, digest
from storage.errors import ConfigError, unknown_name
from storage.expectations.rules import RULES, SEVERITIES, Rule, rule_records, rules_of

RULES_VARIABLE = "LATENTVLA_RULES"  # names a file of rules; pipelines/environment.py reads it
_ROOT = Path(__file__).parents[2]
_CODE = (_ROOT / "storage/expectations", _ROOT / "ops/quality")


def active_rules(config: QualityConfig) -> tuple[Rule, ...]:
    """Every rule with the limits and severity of this configuration.

    Raises ConfigError for a file that cannot be read, an unknown rule or key (with the nearest
    name), or a value of another kind.
    """
    if not config.file:
        return RULES
    file = Path(config.file)
    try:
        changes = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(
            "the file of rules cannot be read",
            where=file,
            expected="a TOML file with tables [<asset>.<rule>]",
            found=str(error),
            do=f"correct it, or unset {RULES_VARIABLE}",
        ) from error
    by_name = {(rule.asset, rule.name): rule for rule in RULES}
    for asset, of_asset in changes.items():
        names = [rule.name for rule in rules_of(RULES, asset=asset)]
        if not names:
            raise unknown_name("asset with rules", asset, {rule.asset for rule in RULES})
        for name, values in _table(file, asset, of_asset).items():
            if name not in names:
                raise unknown_name(f"rule of {asset}", name, names)
            where = f"{file}, [{asset}.{name}]"
            by_name[asset, name] = _changed(
                by_name[asset, name], _table(file, f"{asset}.{name}", values), where
            )
    return tuple(by_name.values())


def rules_version(rules: Sequence[Rule], asset: str) -> str:
    """16 hex digits over what decides the outcome of an asset's rules: their limits, severities and
    the code that evaluates them. Outcomes of another version are not used.
    """
    return digest([rule_records(rules_of(rules, asset=asset)), quality_code()])


@lru_cache
def limits_version(config: QualityConfig, asset: str) -> str:
    """Digest of the limits and severities of an asset's rules, read once a process."""
    return digest(rule_records(rules_of(active_rules(config), asset=asset)))


@lru_cache
def quality_code() -> str:
    """Version of the code that measures logs and evaluates rules."""
    return code_version_of(_CODE)


def _table(file: Path, name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(
            f"'{name}' is no table", where=file, expected=f"[{name}]", found=repr(value)
        )
    return value


def _changed(rule: Rule, values: Mapping[str, Any], where: str) -> Rule:
    """The rule with these values in place of its own."""
    keys = ["severity", *(key for key in ("low", "high") if getattr(rule, key) is not None)]
    if not rule.unique:
        keys.append("allowed")
    for key, value in values.items():
        if key not in keys:
            raise unknown_name(f"key of {rule.asset}.{rule.name}", key, keys)
        if key == "severity":
            if value not in SEVERITIES:
                raise unknown_name("severity", str(value), SEVERITIES)
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            raise ConfigError(
                f"'{key}' is no number", where=where, expected="a number", found=repr(value)
            )
    changed = replace(rule, **{key: values[key] for key in values})
    ordered = changed.low is None or changed.high is None or changed.low <= changed.high
    if not ordered or not 0.0 <= changed.allowed < 1.0:
        raise ConfigError(
            "no value can keep this rule, or every value does",
            where=where,
            expected="low <= high, and allowed in 0 ... 1",
            found=f"low {changed.low}, high {changed.high}, allowed {changed.allowed}",
        )
    return changed

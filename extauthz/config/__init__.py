"""Settings: from the environment and a TOML file, checked whole, frozen; a secret is never in a repr or a mistake."""

from extauthz.config.load import load
from extauthz.config.settings import Settings
from extauthz.config.values import Listen, NamedSecret

__all__ = ["Listen", "NamedSecret", "Settings", "load"]

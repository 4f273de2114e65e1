"""All fuzzing targets, by name."""

from __future__ import annotations

from fuzz.artifact_target import ArtifactTarget
from fuzz.config_target import ConfigTarget
from fuzz.loop import Target
from fuzz.request_target import RequestTarget
from fuzz.state_target import StateTarget

TARGETS: dict[str, Target] = {
    target.name: target for target in (ArtifactTarget(), ConfigTarget(), StateTarget(), RequestTarget())
}

"""A policy release: one folder with a scorer's weights as safetensors and a manifest that vouches for them.

manifest.json names the schema, the features that the scorer reads and the SHA-256 of its weights; nothing in
the folder can run code. The version is a hash of contents.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from online_learning.policies.policy import Policy
from online_learning.policies.rl_policy import RlPolicy, Scorer
from online_learning.statistics.posterior import LinearPrior

SCHEMA = 1
MANIFEST, WEIGHTS = "manifest.json", "scorer.safetensors"
KIND = "slatestream policy"
_NEEDED: dict[str, type | tuple[type, ...]] = {
    "version": str,
    "algorithm": str,
    "feature_dim": int,
    "feature_space": str,
    "temperature": (int, float),
    "sha256": str,
}


@dataclass(frozen=True, slots=True)
class PolicyRelease:
    """The contents of a policy release.

    Attributes
    ----------
    scorer, temperature : of the policy
    algorithm : which learner made it, e.g. "reinforce"
    feature_space : whose features it reads, the version of the model release that makes them
    training : how it was trained and what it measured, as plain values
    """

    scorer: Scorer
    temperature: float
    algorithm: str
    feature_space: str
    training: dict[str, Any]

    def policy(self) -> RlPolicy:
        """Return what is served."""
        return RlPolicy(self.scorer, temperature=self.temperature)

    def write(self, folder: Path) -> str:
        """Write the folder, the manifest last; return the version."""
        folder.mkdir(parents=True, exist_ok=True)
        data = save(_tensors(self.scorer))
        described = {
            "kind": KIND,
            "schema": SCHEMA,
            "algorithm": self.algorithm,
            "feature_dim": self.scorer.dim,
            "feature_space": self.feature_space,
            "temperature": self.temperature,
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        version = _version(described)
        text = json.dumps(described | {"version": version, "training": self.training}, indent=2)
        # A kill in between leaves weights that the manifest does not vouch for, which `read` refuses.
        for name, content in ((WEIGHTS, data), (MANIFEST, f"{text}\n".encode())):
            partial = folder / f"{name}.partial"
            partial.write_bytes(content)
            os.replace(partial, folder / name)
        return version


def read_policy_release(folder: Path, *, dim: int, feature_space: str) -> PolicyRelease:
    """Read and verify a policy release for features of this dimension and space.

    Raises
    ------
    ValueError
        A file is missing, foreign, unreadable or was changed, or the release reads other features.
    """
    try:
        manifest, data = _read(folder)
    except OSError as error:
        raise ValueError(f"policy release {str(folder)!r} cannot be read: {error.strerror}") from None
    if manifest["feature_dim"] != dim:
        raise ValueError(
            f"policy release {str(folder)!r} must read {dim} features, got {manifest['feature_dim']}"
        )
    if manifest["feature_space"] != feature_space:
        raise ValueError(
            f"policy release {str(folder)!r} must read the features of model {feature_space!r}, got "
            f"{manifest['feature_space']!r}: train it on slates of this model"
        )
    path = folder / WEIGHTS
    if (got := hashlib.sha256(data).hexdigest()) != manifest["sha256"]:
        raise ValueError(f"{str(path)!r} must have SHA-256 {manifest['sha256'][:12]}…, got {got[:12]}…")
    try:
        scorer = _scorer(load(data))
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{str(path)!r} must be a scorer's weights: {error}") from None
    if scorer.dim != dim:
        raise ValueError(f"{str(path)!r} must have {dim} inputs, got {scorer.dim}")
    return PolicyRelease(
        scorer, manifest["temperature"], manifest["algorithm"], feature_space, manifest.get("training", {})
    )


def _tensors(scorer: Scorer) -> dict[str, Any]:
    tensors = {"mean": scorer.mean, "scale": scorer.scale}
    for number, (weights, bias) in enumerate(scorer.layers):
        tensors |= {f"{number}.weights": np.ascontiguousarray(weights), f"{number}.bias": bias}
    return tensors


def _scorer(tensors: dict[str, Any]) -> Scorer:
    depth = (len(tensors) - 2) // 2
    layers = tuple((tensors[f"{number}.weights"], tensors[f"{number}.bias"]) for number in range(depth))
    return Scorer(tensors["mean"], tensors["scale"], layers)


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    manifest = _read_manifest(folder)
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"policy release {str(folder)!r} must hold {WEIGHTS}, which is missing")
    return manifest, (folder / WEIGHTS).read_bytes()


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"policy release must be a folder with a {MANIFEST}, got {str(folder)!r}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} must be a manifest in JSON: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise ValueError(f"{str(path)!r} must be the manifest of a policy release, got another kind")
    if manifest.get("schema") != SCHEMA:
        raise ValueError(f"policy release schema must be {SCHEMA}, got {manifest.get('schema')!r}")
    if missing := _NEEDED.keys() - manifest.keys():
        raise ValueError(f"{str(path)!r} must name {sorted(missing)[0]!r}, which is missing")
    for name, kind in _NEEDED.items():
        if not isinstance(manifest[name], kind):
            wanted = "a text" if kind is str else "a number"
            raise ValueError(f"{str(path)!r} must have {wanted} as {name!r}, got {manifest[name]!r}")
    described = {name: of for name, of in manifest.items() if name not in ("version", "training")}
    if manifest["version"] != (got := _version(described)):
        raise ValueError(f"{str(path)!r} must describe version {manifest['version']}, got contents of {got}")
    return manifest


def _version(described: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]


class ReleasedPolicy(RlPolicy):
    """The policy of a release folder, as the registry makes it."""

    @classmethod
    def make(cls, prior: LinearPrior, **options: Any) -> Policy:
        """Read the folder `policy_release`, which must be of the prior's features."""
        folder = cls.Options(**options).policy_release
        if folder is None:
            raise ValueError("policy_release must be a folder when policy is 'rl', got None")
        # What follows a slash tells sums of statistics apart, not the features that they are of.
        space = prior.feature_space.partition("/")[0]
        return read_policy_release(folder, dim=len(prior.weights), feature_space=space).policy()

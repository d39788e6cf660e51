"""Store that writes objects to a data set repository on the Hugging Face Hub, in one commit per call."""

from __future__ import annotations

from collections.abc import Mapping

from cmkd.data.huggingface.card import readme
from cmkd.data.pack.pack import Pack
from cmkd.data.remote.store import Store, hub_place
from cmkd.errors import in_one_line, needs_extra


class HubStore(Store):
    """Objects in a repository ``hf://datasets/USER/NAME``; reading is by HTTP, as in `Store`.

    Args:
        address: address of the repository; a private one is created if it does not exist.

    Raises:
        CmkdError: the hub cannot be reached, or refuses the request.
    """

    def __init__(self, address: str) -> None:
        super().__init__(address)
        with needs_extra("hub", "the Hugging Face Hub"):
            from huggingface_hub import HfApi
        self._repository, self._below, revision = hub_place(self.address)
        self._revision = revision or None
        self._api = HfApi(library_name="cmkd")
        with in_one_line(f"cannot make {self.address}"):
            self._api.create_repo(self._repository, repo_type="dataset", private=True, exist_ok=True)

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Write objects in one commit."""
        from huggingface_hub import CommitOperationAdd

        names = ", ".join(contents) if len(contents) == 1 else f"{len(contents)} objects"
        adds = [CommitOperationAdd("/".join(filter(None, (self._below, name))), c) for name, c in contents.items()]
        with in_one_line(f"cannot write {names} to {self.address}"):
            self._api.create_commit(
                self._repository, adds, commit_message=f"Add {names}", repo_type="dataset", revision=self._revision
            )

    def describe(self, pack: Pack) -> None:
        """Write the data card that the hub shows."""
        self.write({"README.md": readme(pack).encode()})

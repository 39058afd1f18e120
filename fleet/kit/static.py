"""Static files under hashed names, the imports between our own ES modules included."""

import re
from collections.abc import Callable
from typing import Any

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from whitenoise.storage import CompressedManifestStaticFilesStorage

OUR_MODULES = ("js/", "vendor/")


class HashedStaticStorage(CompressedManifestStaticFilesStorage, ManifestStaticFilesStorage):  # type: ignore[misc]  # whitenoise carries no types
    """Hashed, compressed and immutable."""

    support_js_module_import_aggregation = True
    manifest_strict = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._addresses: dict[str, str] = {}

    def url(self, name: str, force: bool = False) -> str:  # type: ignore[override]  # the stubs of one base allow None
        """The address of a file by its hashed name: a page asks for dozens, and a running server's never change."""
        if force:
            return str(super().url(name, force))
        if name not in self._addresses:
            self._addresses[name] = str(super().url(name))
        return self._addresses[name]

    def url_converter(  # type: ignore[override]  # the stubs miss that template may be None
        self, name: str, hashed_files: dict[str, Any], template: str = ""
    ) -> Callable[[re.Match[str]], str]:
        """Other packages' scripts stay as they are: what looks like an import in them often is none."""
        if name.endswith((".js", ".mjs")) and not name.startswith(OUR_MODULES):
            return lambda match: match.group(0)
        return super().url_converter(name, hashed_files, template)

"""How each object store is spelt for OpenDAL: from an address and its secrets to its settings.

Nothing is taken from the environment, from configuration files of other tools, or from a cloud's
metadata service, which OpenDAL would look at if it were not told to leave them alone: a remote is
what its URL and its secrets say, on every machine.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fusefs.errors import BadRemote
from fusefs.remotes.address import Address
from fusefs.remotes.secrets import Secrets

Settings = dict[str, str]


@dataclass(frozen=True)
class Service:
    """What an object store is like.

    `scheme`: OpenDAL's. `settings`: makes them; raises BadRemote where a secret is missing.
    `is_conditional`: writes if there is none. `is_staged`: a write that is cut off leaves a part
    behind under the name, so that objects are written aside and renamed. `keeps_uploads`: a large
    object that is cut off stays there as an upload, until that is aborted (`multipart`).
    """

    scheme: str
    settings: Callable[[Address, Secrets], Settings]
    is_conditional: bool = True
    is_staged: bool = False
    keeps_uploads: bool = False


def _s3(address: Address, secrets: Secrets) -> Settings:
    options = address.options
    settings = {
        "bucket": address.host,
        # A region must be there, and those with an endpoint of their own seldom care which.
        "region": options.get("region", "us-east-1"),
        "disable_config_load": "true",
        "disable_ec2_metadata": "true",
        **_given(options, "endpoint"),
        **_given(options, "storage_class", "default_storage_class"),
    }
    if options.get("virtual_host"):
        settings["enable_virtual_host_style"] = "true"
    if (checksum := options.get("checksum", "md5")) != "none":
        settings["checksum_algorithm"] = checksum
    if options.get("anonymous"):
        return {**settings, "skip_signature": "true"}
    return {
        **settings,
        "access_key_id": secrets.need("access_key_id", "s3"),
        "secret_access_key": secrets.need("secret_access_key", "s3"),
        **_given(secrets, "session_token"),
    }


def _gcs(address: Address, secrets: Secrets) -> Settings:
    options = address.options
    settings = {
        "bucket": address.host,
        "disable_config_load": "true",
        "disable_vm_metadata": "true",
        **_given(options, "endpoint"),
        **_given(options, "storage_class", "default_storage_class"),
    }
    if options.get("anonymous"):
        return {**settings, "skip_signature": "true"}
    if token := secrets.get("token"):
        return {**settings, "token": token}
    credential = secrets.need("credential", "gcs").strip()
    if credential.startswith("{"):
        credential = base64.b64encode(credential.encode()).decode()
    return {**settings, "credential": credential}


def _azblob(address: Address, secrets: Secrets) -> Settings:
    account = address.options.get("account") or secrets.get("account_name")
    if not account:
        raise BadRemote("azblob: option account is missing: ...?account=NAME")
    settings = {
        "container": address.host,
        "account_name": account,
        "endpoint": address.options.get("endpoint", f"https://{account}.blob.core.windows.net"),
    }
    if token := secrets.get("sas_token"):
        return {**settings, "sas_token": token}
    key = secrets.need("account_key", "azblob")
    try:
        base64.b64decode(key, validate=True)
    except ValueError:
        raise BadRemote("azblob: the secret account_key is not base64") from None
    return {**settings, "account_key": key}


def _b2(address: Address, secrets: Secrets) -> Settings:
    return {
        "bucket": address.host,
        "bucket_id": address.options["bucket_id"],
        "application_key_id": secrets.need("application_key_id", "b2"),
        "application_key": secrets.need("application_key", "b2"),
    }


def _webdav(address: Address, secrets: Secrets) -> Settings:
    port = f":{address.port}" if address.port else ""
    scheme = address.scheme.removeprefix("webdav+")
    settings = {"endpoint": f"{scheme}://{address.host}{port}"}
    if token := secrets.get("token"):
        return {**settings, "token": token}
    user = address.user or secrets.get("username")
    if not user and "password" not in secrets:
        return settings  # a share that lets in everybody
    return {
        **settings,
        "username": user or secrets.need("username", address.scheme),
        "password": secrets.need("password", address.scheme),
    }


def _given(source: Mapping[str, str], key: str, name: str = "") -> Settings:
    return {name or key: source[key]} if source.get(key) else {}


_WEBDAV = Service("webdav", _webdav, is_conditional=False, is_staged=True)
SERVICES = {
    "s3": Service("s3", _s3, keeps_uploads=True),
    "gcs": Service("gcs", _gcs),
    "azblob": Service("azblob", _azblob),
    "b2": Service("b2", _b2, is_conditional=False),
    "webdav+https": _WEBDAV,
    "webdav+http": _WEBDAV,
}

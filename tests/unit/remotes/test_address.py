"""URLs of remotes, and everything that may be wrong with one."""

import pytest

from fusefs.errors import BadRemote
from fusefs.remotes.address import connect, parse
from fusefs.remotes.secrets import Secrets

SECRET = "TopSecret-x7"


@pytest.mark.parametrize(
    ("url", "place", "path"),
    [
        ("file:///a/b/", "file:///a/b", "/a/b"),
        ("file:///a%20b", "file:///a%20b", "/a b"),
        ("s3://bucket", "s3://bucket", ""),
        ("s3://bucket/a/b/?region=eu-1", "s3://bucket/a/b", "a/b"),
        ("s3://b/p?endpoint=http://h:9", "s3://b/p?endpoint=http://h:9", "p"),
        ("sftp://me@host:22/dir", "sftp://me@host:22/dir", "/dir"),
        ("sftp://me@host/~/dir", "sftp://me@host/dir", "dir"),
        ("webdav+https://me@host/dir", "webdav+https://me@host/dir", "dir"),
        ("memory://x", "memory://x", ""),
    ],
)
def test_what_a_url_says(url: str, place: str, path: str) -> None:
    address = parse(url)
    assert (address.place, address.path) == (place, path)


@pytest.mark.parametrize(
    ("url", "key", "way"),
    [
        (f"s4://{SECRET}/x", "s4", "s3://"),
        ("/just/a/dir", "file://", "file://"),
        (f"s3://bucket/p?{SECRET}=1", "option", "there are"),
        ("s3://bucket/p?regoin=x", "regoin", "region"),
        (f"s3://bucket/p?secret_access_key={SECRET}", "secret_access_key", "--secrets"),
        (f"s3://key:{SECRET}@bucket/p", "password", "--secrets"),
        (f"sftp://me:{SECRET}@host/p", "password", "--secrets"),
        (f"s3://{SECRET}@bucket/p", "user or key", "before the bucket"),
        ("s3:///p", "bucket", "s3://BUCKET"),
        ("gcs://", "bucket", "gcs://BUCKET"),
        ("azblob:///x", "container", "azblob://CONTAINER"),
        ("b2://bucket/p", "bucket_id", "?bucket_id="),
        ("sftp://me@host:0/p", "port", "65535"),
        ("sftp://me@host:70000/p", "port", "65535"),
        (f"sftp://me@host:{SECRET}/p", "port", "65535"),
        ("s3://bucket:80/p", "port", "endpoint"),
        ("s3://b/p?endpoint=host", "endpoint", "https://host"),
        (f"s3://b/p?endpoint=http://u:{SECRET}@h", "endpoint", "nothing but"),
        ("s3://b/p?endpoint=http://h:99999", "endpoint", "port"),
        ("s3://b/p?region=a&region=b", "region", "twice"),
        ("s3://b/p?conditional=maybe", "conditional", "yes or no"),
        (f"s3://b/p?timeout={SECRET}", "timeout", "1s to 1h"),
        ("s3://b/p?timeout=0", "timeout", "1s to 1h"),
        ("s3://b/p?slowest=fast", "slowest", "64K"),
        ("s3://b/p?checksum=sha1", "checksum", "md5"),
        ("sftp://me@host/p?known_hosts=here", "known_hosts", "from the root"),
        ("sftp://me@host/p?host_key=abc", "host_key", "SHA256"),
        ("sftp://me@host/p?connections=0", "connections", "1 to 99"),
        ("file://dir/x", "directory", "file:///dir"),
        ("file:///", "directory", "file:///dir"),
        ("file:///a?mountpoint=b", "mountpoint", "from the root"),
        ("file:///a/../b", "path", ".."),
        ("s3://b/p#x", "#", "%23"),
        ("memory://a/b", "memory", "no path"),
    ],
)
def test_what_is_wrong_is_named_and_the_way_out(url: str, key: str, way: str) -> None:
    with pytest.raises(BadRemote) as raised:
        parse(url)
    said = str(raised.value)
    assert key in said
    assert way in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("url", "secrets", "key"),
    [
        ("s3://b/p", {}, "access_key_id"),
        ("s3://b/p", {"access_key_id": "A"}, "secret_access_key"),
        ("gcs://b/p", {}, "credential"),
        ("azblob://c/p", {"account_key": SECRET}, "account"),
        ("azblob://c/p?account=a", {}, "account_key"),
        ("azblob://c/p?account=a", {"account_key": SECRET}, "base64"),
        ("b2://b/p?bucket_id=i", {"application_key_id": "A"}, "application_key"),
        ("webdav+https://me@host/p", {}, "password"),
        ("webdav+https://host/p", {"password": SECRET}, "username"),
        ("sftp://host/p", {}, "USER"),
        ("sftp://me@host/p", {"password": SECRET}, "known_hosts"),
        (f"sftp://me@host/p?host_key=SHA256:{'A' * 43}", {}, "password"),
        (
            f"sftp://me@host/p?host_key=SHA256:{'A' * 43}&private_key=/no/such",
            {"password": SECRET},
            "private_key /no/such",
        ),
    ],
)
def test_a_secret_or_option_that_lacks_is_named(
    url: str, secrets: dict[str, str], key: str
) -> None:
    pytest.importorskip("opendal")
    pytest.importorskip("paramiko")
    with pytest.raises(BadRemote, match=key) as raised:
        connect(url, Secrets(secrets, "file:/x"))
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("gcs://b/p", {"credential": '{"type": "service_account"}'}),
        ("gcs://b/p?anonymous=yes", {}),
        ("azblob://c/p?account=a", {"sas_token": "sv=1&sig=x"}),
        ("b2://b/p?bucket_id=i", {"application_key_id": "A", "application_key": "B"}),
        ("webdav+https://host/p", {}),
    ],
)
def test_services_that_no_test_can_reach_are_at_least_opened(
    url: str, secrets: dict[str, str]
) -> None:
    pytest.importorskip("opendal")
    remote = connect(url, Secrets(secrets, "test"))
    assert url.startswith(remote.place)
    remote.close()

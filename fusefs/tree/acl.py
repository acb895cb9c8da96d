"""POSIX ACLs as the kernel hands them over in ``system.posix_acl_access`` and ``_default``.

The kernel enforces them; a filesystem must keep the mode in step with the access ACL and pass the
default ACL of a directory on to what is made in it (acl(5), "object creation and default ACLs").
"""

from struct import Struct, error
from typing import NamedTuple

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

_VERSION = 2
_HEADER = Struct("<I")
_ENTRY = Struct("<HHI")


class AclEntry(NamedTuple):
    tag: int
    permissions: int
    id: int


Acl = list[AclEntry]


def unpack(value: bytes) -> Acl:
    """Raises ValueError on bytes that are no ACL."""
    try:
        if _HEADER.unpack_from(value)[0] != _VERSION:
            raise ValueError("not version 2 of the ACL format")
        return [AclEntry(*fields) for fields in _ENTRY.iter_unpack(value[_HEADER.size :])]
    except error as problem:
        raise ValueError(f"not an ACL: {problem}") from problem


def pack(acl: Acl) -> bytes:
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in acl)


def is_minimal(acl: Acl) -> bool:
    """Whether the mode alone says the same."""
    return all(entry.tag in (USER_OBJ, GROUP_OBJ, OTHER) for entry in acl)


def permission_bits(acl: Acl) -> int:
    """The nine bits of the mode that the ACL stands for: its mask is shown as the group's."""
    by_tag = {entry.tag: entry.permissions for entry in acl}
    group = by_tag.get(MASK, by_tag.get(GROUP_OBJ, 0))
    return by_tag.get(USER_OBJ, 0) << 6 | group << 3 | by_tag.get(OTHER, 0)


def with_mode(acl: Acl, mode: int) -> Acl:
    """The access ACL after chmod to `mode`."""
    group_tag = _group_tag(acl)
    bits = {USER_OBJ: mode >> 6 & 7, group_tag: mode >> 3 & 7, OTHER: mode & 7}
    return [entry._replace(permissions=bits.get(entry.tag, entry.permissions)) for entry in acl]


def inherit(default: Acl, mode: int) -> Acl:
    """The access ACL of something new, made with `mode` below a directory with this default."""
    group_tag = _group_tag(default)
    limits = {USER_OBJ: mode >> 6 & 7, group_tag: mode >> 3 & 7, OTHER: mode & 7}
    return [
        entry._replace(permissions=entry.permissions & limits.get(entry.tag, 7))
        for entry in default
    ]


def _group_tag(acl: Acl) -> int:
    return MASK if any(entry.tag == MASK for entry in acl) else GROUP_OBJ

"""The permissions and the roles' defaults are those of the seed and of the public contract."""

import pytest

from apps.accounts.permissions import Permission, Role
from apps.accounts.roles import DESCRIPTIONS, ROLES

# Copied from the seed's guide, "Role-Based Access Control (RBAC)".
SEED = {
    "workflow": ["create", "read", "update", "delete", "execute"],
    "task": ["create", "read", "update", "delete", "execute"],
    "agent": ["create", "read", "update", "delete", "execute"],
    "system": ["admin", "read", "update"],
    "monitoring": ["read", "update"],
    "progress": ["read", "update"],
}
PERMISSIONS = {f"{noun}:{verb}" for noun, verbs in SEED.items() for verb in verbs}

# "noun verb/verb" as the contract writes it under "Roles and permissions".
DEFAULTS = {
    "user": "workflow create/read/update/execute, task read/execute, agent read, monitoring read, progress read",
    "agent": "workflow read/execute, task read/update/execute, agent read, progress read/update",
    "system": "workflow read/execute, task read/execute, agent read, system read/update, monitoring read/update, "
    "progress read/update",
}


def spelled_out(text):
    return {
        f"{part.split()[0]}:{verb}" for part in map(str.strip, text.split(",")) for verb in part.split()[1].split("/")
    }


def test_the_22_permissions_are_the_seeds():
    assert {str(permission) for permission in Permission} == PERMISSIONS
    assert len(PERMISSIONS) == 22
    assert set(DESCRIPTIONS) == set(Permission)


def test_names_in_code_are_the_seeds_names():
    for permission in Permission:
        assert permission.name == permission.value.replace(":", "_").upper()


def test_the_five_roles():
    assert (
        {str(role) for role in ROLES} == {str(role) for role in Role} == {"admin", "user", "agent", "system", "guest"}
    )


@pytest.mark.parametrize("role", sorted(DEFAULTS))
def test_a_roles_defaults_are_the_contracts(role):
    assert {str(permission) for permission in ROLES[Role(role)][1]} == spelled_out(DEFAULTS[role])


def test_admin_holds_all_and_guest_reads_all_but_the_system():
    assert ROLES[Role.ADMIN][1] == set(Permission)
    assert {str(p) for p in ROLES[Role.GUEST][1]} == {p for p in PERMISSIONS if p.endswith(":read")} - {"system:read"}

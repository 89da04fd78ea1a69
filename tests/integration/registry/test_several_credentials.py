"""Several credentials for one registry: each for its repositories, in turn when one's quota is used up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.samples.auth import BearerAuth, TokenService
from api.samples.registry import SampleRegistry
from service.errors import AuthenticationFailed, Throttled
from service.model.endpoint import Credential, CredentialSpec, Limits, RegistryEndpoint
from service.registry.accounts import MIN_REST_SECONDS, REST_SECONDS
from service.registry.client import RegistryClient
from service.registry.http import MAX_ATTEMPTS
from service.registry.limiter import Limiter
from service.registry.results import MOUNTED
from tests.integration.registry.support import QUICK, Pauses, blob, push
from tests.support.guard import Guard


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Racing(Clock):
    """A clock by which every rest is over at the next look; it ends what would go on without end."""

    def __call__(self) -> float:
        self.now += REST_SECONDS
        assert self.now < 1000 * REST_SECONDS, "accounts are asked in a circle"
        return self.now


def open_client(
    url: str,
    *robots: tuple[str, str],
    clock: Clock | None = None,
    limiter: Limiter | None = None,
) -> RegistryClient:
    """A client with these (user, prefix)."""
    specs = [CredentialSpec(user, password_env="X", prefix=prefix) for user, prefix in robots]
    endpoint = RegistryEndpoint("hub", url, credentials=specs[0], more_credentials=tuple(specs[1:]))
    first, *more = [lambda user=user: Credential(user, f"{user} word") for user, _ in robots]
    made = RegistryClient(
        endpoint, first, more=more, timeouts=QUICK, sleep=Pauses(), limiter=limiter
    )
    made.http.accounts._clock = clock or Clock()
    return made


def filled(guard: Guard, *repositories: str) -> SampleRegistry:
    """A guarded registry with an image in each of these."""
    registry = SampleRegistry(auth=guard)
    registry.start()
    for repository in repositories:
        user = next(user for user, mine in guard.robots.items() if repository.startswith(mine))
        with_all = RegistryClient(
            RegistryEndpoint("hub", registry.url),
            lambda user=user: Credential(user, f"{user} word"),
            timeouts=QUICK,
        )
        push(with_all, repository, "v1", b"a layer of " + repository.encode())
        with_all.close()
    guard.seen.clear()
    return registry


@pytest.fixture
def teams() -> Iterator[tuple[Guard, SampleRegistry]]:
    guard = Guard({"ann": ("team-a/",), "bob": ("team-b/",), "": ("open/",)})
    registry = filled(guard, "team-a/app", "team-a/web", "team-b/app")
    yield guard, registry
    registry.close()


def test_each_repository_is_asked_for_with_its_own_credentials(
    teams: tuple[Guard, SampleRegistry],
) -> None:
    guard, registry = teams
    made = open_client(registry.url, ("ann", "team-a"), ("bob", "team-b"))

    assert made.head_manifest("team-a/app", "v1")
    assert made.head_manifest("team-b/app", "v1")
    assert [tag for page in made.list_tags("team-b/app") for tag in page.tags] == ["v1"]
    data, described = blob(100)
    made.put_blob("team-b/new", described.digest, data)

    assert guard.users_of("team-a/app") == {"ann"}
    assert guard.users_of("team-b/app") == {"bob"}
    assert guard.users_of("team-b/new") == {"bob"}


def test_what_no_credentials_are_for_is_asked_for_without_any(
    teams: tuple[Guard, SampleRegistry],
) -> None:
    guard, registry = teams
    made = open_client(registry.url, ("ann", "team-a"), ("bob", "team-b"))

    with pytest.raises(AuthenticationFailed):
        made.get_manifest("team-c/app", "v1")
    with pytest.raises(AuthenticationFailed):
        made.get_manifest("team-among/app", "v1")

    assert guard.users_of("team-c/app") == guard.users_of("team-among/app") == set()


def test_the_longest_prefix_wins_and_none_is_for_all_others() -> None:
    guard = Guard({"all": ("",), "web": ("",)})
    registry = filled(guard, "team-a/app", "team-a/web/front", "team-a/website")
    with registry:
        made = open_client(registry.url, ("all", ""), ("web", "team-a/web"))
        for repository in ("team-a/app", "team-a/web/front", "team-a/website"):
            assert made.head_manifest(repository, "v1")

    assert guard.users_of("team-a/app") == {"all"}
    assert guard.users_of("team-a/web/front") == {"web"}
    assert guard.users_of("team-a/website") == {"all"}, "a prefix has whole parts of a name"


def test_nothing_is_mounted_from_another_accounts_repository(
    teams: tuple[Guard, SampleRegistry],
) -> None:
    guard, registry = teams
    made = open_client(registry.url, ("ann", "team-a"), ("bob", "team-b"))
    layer = made.get_manifest("team-a/app", "v1").blobs()[-1].digest
    guard.seen.clear()

    assert made.mount_blob("team-b/app", layer, "team-a/app") is None
    assert guard.seen == [], "no request at all"
    assert made.mount_blob("team-a/web", layer, "team-a/app") is MOUNTED


def test_each_account_lists_its_own_repositories(teams: tuple[Guard, SampleRegistry]) -> None:
    _, registry = teams
    made = open_client(registry.url, ("ann", "team-a"), ("bob", "team-b"))

    pages = list(made.list_repositories(page_size=1))

    names = [name for page in pages for name in page.repositories]
    assert names == ["team-a/app", "team-a/web", "team-b/app"]
    for number, page in enumerate(pages[:-1]):
        rest = [n for later in pages[number + 1 :] for n in later.repositories]
        again = made.list_repositories(page_size=1, cursor=page.next)
        assert [n for one in again for n in one.repositories] == rest


def test_an_account_that_is_refused_leaves_the_others_alone(
    teams: tuple[Guard, SampleRegistry],
) -> None:
    _, registry = teams
    made = open_client(registry.url, ("eve", "team-a"), ("bob", "team-b"))

    made.ping()  # bob is taken
    with pytest.raises(AuthenticationFailed):
        made.get_manifest("team-a/app", "v1")
    assert made.head_manifest("team-b/app", "v1")

    nobody = open_client(registry.url, ("eve", "team-a"), ("mallory", "team-b"))
    with pytest.raises(AuthenticationFailed):
        nobody.ping()


def test_tokens_are_asked_for_by_each_account_for_its_own_repositories() -> None:
    tokens = TokenService({"ann": "ann word", "bob": "bob word"})
    with SampleRegistry(auth=BearerAuth(tokens)) as registry:
        made = open_client(registry.url, ("ann", "team-a"), ("bob", "team-b"))
        for repository in ("team-a/app", "team-b/app", "team-a/web"):
            data, described = blob(100)
            made.put_blob(repository, described.digest, data)
        made.ping()
    asked = {(one.account, scope.split(":")[1]) for one in tokens.requests for scope in one.scopes}
    assert asked == {("ann", "team-a/app"), ("bob", "team-b/app"), ("ann", "team-a/web")}


# ---- quotas --------------------------------------------------------------------------------------


@pytest.fixture
def hub() -> Iterator[tuple[Guard, SampleRegistry]]:
    guard = Guard({"one": ("library/",), "two": ("library/",)})
    registry = filled(guard, "library/app")
    yield guard, registry
    registry.close()


def pulled_by(guard: Guard, made: RegistryClient) -> str:
    """Pull, and return the account whose quota it was counted against."""
    before = dict(guard.left)
    made.get_manifest("library/app", "v1")
    return next(user for user, left in before.items() if guard.left[user] < left)


def test_the_next_account_goes_on_where_one_is_out_of_quota(
    hub: tuple[Guard, SampleRegistry],
) -> None:
    guard, registry = hub
    guard.left = {"one": 2, "two": 2}
    guard.headers = {"Retry-After": "60"}
    clock = Clock()
    made = open_client(registry.url, ("one", ""), ("two", ""), clock=clock)

    assert [pulled_by(guard, made) for _ in range(4)] == ["one", "one", "two", "two"]
    with pytest.raises(Throttled) as told:
        made.get_manifest("library/app", "v1")
    assert told.value.retry_after_seconds == 60

    guard.left = {"one": 9, "two": 9}
    clock.now += 61
    assert pulled_by(guard, made) == "one"


def test_an_account_rests_for_as_long_as_the_registry_says(
    hub: tuple[Guard, SampleRegistry],
) -> None:
    guard, registry = hub
    guard.left = {"one": 0, "two": 9}
    guard.headers = {"RateLimit-Limit": "100;w=21600", "RateLimit-Reset": "120"}
    clock = Clock()
    made = open_client(registry.url, ("one", ""), ("two", ""), clock=clock)
    assert pulled_by(guard, made) == "two"
    guard.left["one"] = 9

    clock.now += 119
    assert pulled_by(guard, made) == "two"
    clock.now += 2
    assert pulled_by(guard, made) == "one"


def test_an_account_is_tried_again_after_a_while_where_the_registry_says_nothing(
    hub: tuple[Guard, SampleRegistry],
) -> None:
    guard, registry = hub
    guard.left = {"one": 0, "two": 9}
    clock = Clock()
    made = open_client(registry.url, ("one", ""), ("two", ""), clock=clock)
    assert pulled_by(guard, made) == "two"
    guard.left["one"] = 9

    clock.now += REST_SECONDS - 1
    assert pulled_by(guard, made) == "two"
    clock.now += 2
    assert pulled_by(guard, made) == "one"


def test_a_limit_that_is_nobodys_quota_changes_no_account(
    hub: tuple[Guard, SampleRegistry],
) -> None:
    """Docker Hub answers abuse from an address by a bare 429: another account would not help."""
    guard, registry = hub
    guard.left, guard.code = {"one": 0, "two": 9}, "UNKNOWN"
    guard.headers = {"Retry-After": "60"}
    made = open_client(registry.url, ("one", ""), ("two", ""))
    with pytest.raises(Throttled):
        made.get_manifest("library/app", "v1")
    assert guard.left["two"] == 9


def test_a_quota_that_is_told_to_be_used_up_costs_no_refusal(
    hub: tuple[Guard, SampleRegistry],
) -> None:
    guard, registry = hub
    used_up = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"}
    registry.fault("/manifests/v1", nth=1, headers=used_up)  # nobody's, before the challenge
    made = open_client(registry.url, ("one", ""), ("two", ""))
    made.get_manifest("library/app", "v1")
    registry.fault("/manifests/v1", headers=used_up)
    made.get_manifest("library/app", "v1")
    made.get_manifest("library/app", "v1")
    shown = [user for user, name in guard.seen if name == "library/app" and user]
    assert shown == ["one", "one", "two"]


def test_prefixes_keep_their_quotas_apart() -> None:
    guard = Guard({"one": ("library/",), "two": ("team/",)})
    registry = filled(guard, "library/app", "team/app")
    guard.left, guard.headers = {"one": 0, "two": 9}, {"Retry-After": "60"}
    with registry:
        made = open_client(registry.url, ("one", "library"), ("two", "team"))
        with pytest.raises(Throttled):
            made.get_manifest("library/app", "v1")
        made.get_manifest("team/app", "v1")
    assert guard.users_of("library/app") == {"one"}, "never another prefix's account"


def test_each_account_is_asked_once_a_request_however_soon_its_quota_is_said_to_be_back(
    hub: tuple[Guard, SampleRegistry],
) -> None:
    guard, registry = hub
    guard.left = {"one": 0, "two": 0}
    told: list[float] = []
    limiter = Limiter("hub", Limits(), slowed=lambda _, wait: told.append(wait), sleep=Pauses())
    made = open_client(registry.url, ("one", ""), ("two", ""), clock=Racing(), limiter=limiter)

    with pytest.raises(Throttled):
        made.get_manifest("library/app", "v1")

    assert [user for user, name in guard.seen if user and name] == ["one", "two"] * MAX_ATTEMPTS
    assert told == [0.0] * MAX_ATTEMPTS, "the fleet is told when all of them are refused"


def test_an_account_rests_for_some_seconds_at_least(hub: tuple[Guard, SampleRegistry]) -> None:
    guard, registry = hub
    guard.left, guard.headers = {"one": 0, "two": 9}, {"Retry-After": "1"}
    clock = Clock()
    made = open_client(registry.url, ("one", ""), ("two", ""), clock=clock)
    assert pulled_by(guard, made) == "two"
    guard.left["one"] = 9

    clock.now += MIN_REST_SECONDS - 1
    assert pulled_by(guard, made) == "two"
    clock.now += 2
    assert pulled_by(guard, made) == "one"


def test_a_registry_that_is_overloaded_is_so_for_all_accounts(
    hub: tuple[Guard, SampleRegistry],
) -> None:
    _, registry = hub
    told: list[float] = []
    limiter = Limiter("hub", Limits(), slowed=lambda _, wait: told.append(wait), sleep=Pauses())
    made = open_client(registry.url, ("one", ""), ("two", ""), limiter=limiter)
    made.get_manifest("library/app", "v1")
    registry.fault("/manifests/v1", status=503, headers={"Retry-After": "60"}, times=1)
    with pytest.raises(Throttled):
        made.get_manifest("library/app", "v1")
    assert told == [60.0]


def test_an_upload_ends_with_the_account_that_began_it(hub: tuple[Guard, SampleRegistry]) -> None:
    guard, registry = hub
    made = open_client(registry.url, ("one", ""), ("two", ""))
    data, described = blob(100)
    session = made.uploads.start("library/new")
    made.http.accounts.out_of_quota(made.http.accounts.all[0], 60.0)
    made.uploads.put_small("library/new", described.digest, data, session)
    assert guard.users_of("library/new") == {"one"}
    made.get_manifest("library/app", "v1")
    assert guard.users_of("library/app") == {"two"}, "pulls are what is counted"

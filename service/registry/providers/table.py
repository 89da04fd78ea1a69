"""All providers, a row each: side by side, so that what differs is seen (docs/adr/0019).

Sources: the providers' own documentation as of 2026-11. Every row can be overridden, registry by
registry, by `capabilities` and `limits`.
"""

from __future__ import annotations

from service.model.provider import Capabilities, Offers, Provider
from service.model.reference import DOCKER_HUB_ALIASES

MIB = 1 << 20

GENERIC = Provider(
    "generic",
    "any OCI registry",
    offers=Offers(events="not offered"),
    proof="the sample registry",
    notes="What the distribution API has. Repositories must be made by hand where the registry wants them.",
)

_ROWS = (
    Provider(
        "distribution",
        "Docker Registry, distribution 2 and 3",
        offers=Offers(referrers="no"),
        proof="real servers",
        notes="distribution 2 cannot delete a tag alone: such a deletion ends with a reason.",
    ),
    Provider(
        "harbor",
        "Harbor 2",
        hosts=(r"demo\.goharbor\.io",),
        capabilities=Capabilities(digest_lists=True, tag_delete="api"),
        offers=Offers(create="yes", webhooks="yes"),
        namespace="project",
        proof="contract",
        notes="Projects are made private, by a user or a system robot that may create them.",
    ),
    Provider(
        "dockerhub",
        "Docker Hub",
        hosts=tuple(sorted(host.replace(".", r"\.") for host in DOCKER_HUB_ALIASES)),
        api_urls=((r".*", "https://hub.docker.com"),),
        capabilities=Capabilities(
            catalog=False, digest_lists=True, referrers="fallback", tag_delete="api"
        ),
        offers=Offers(webhooks="no", referrers="no", limits="yes"),
        proof="contract",
        notes="With credentials, the repositories of the user's namespaces are listed; those of others are named in "
        "the rule. Repositories are made by the first push, as public or private as the account's default. The user "
        "and password are presented to hub.docker.com, too.",
    ),
    Provider(
        "ecr",
        "AWS Elastic Container Registry",
        hosts=(
            r"\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?",
            r"\d{12}\.dkr-ecr(-fips)?\.[a-z0-9-]+\.on\.aws",
        ),
        api_urls=(
            (
                r"\d{12}\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?",
                r"https://api.ecr.\1.amazonaws.com\2",
            ),
            (
                r"\d{12}\.dkr\.ecr-fips\.([a-z0-9-]+)\.amazonaws\.com",
                r"https://ecr-fips.\1.amazonaws.com",
            ),
            (r"\d{12}\.dkr-ecr\.([a-z0-9-]+)\.on\.aws", r"https://ecr.\1.api.aws"),
            (r"\d{12}\.dkr-ecr-fips\.([a-z0-9-]+)\.on\.aws", r"https://ecr-fips.\1.api.aws"),
        ),
        capabilities=Capabilities(
            digest_lists=True,
            chunk_bytes=10 * MIB,
            chunk_minimum_bytes=5 * MIB,
            tag_delete="api",
        ),
        offers=Offers(webhooks="yes", keyless="yes", create="yes", limits="yes"),
        namespace="repository",
        proof="contract",
        notes="An access key as user with its secret as password, or `keyless: aws` for the worker's own identity "
        "(with transship[aws] installed), or for a `role` that it assumes, with an `external_id`. The user AWS with a "
        "password of `aws ecr get-login-password` works for its 12 hours, and neither makes repositories nor deletes tags. "
        "Webhooks go by EventBridge, with the role of `--role`.",
    ),
    Provider(
        "ecr-public",
        "AWS ECR Public",
        hosts=(r"public\.ecr\.aws",),
        api_urls=((r".*", "https://api.ecr-public.us-east-1.amazonaws.com"),),
        capabilities=Capabilities(catalog=False, digest_lists=True, tag_delete="api"),
        offers=Offers(keyless="yes", create="yes", events="not offered", limits="yes"),
        namespace="repository",
        proof="contract",
        notes="Pulls need no credentials. An access key or `keyless: aws`, as at ECR, lists, makes and deletes from in the account's "
        "own repositories, ALIAS/NAME; those of other accounts are named in the rule.",
    ),
    Provider(
        "acr",
        "Azure Container Registry",
        hosts=(r"[a-z0-9-]+\.azurecr\.(io|cn|us)",),
        api_urls=(
            (r"[a-z0-9-]+\.azurecr\.io", "https://management.azure.com"),
            (r"[a-z0-9-]+\.azurecr\.cn", "https://management.chinacloudapi.cn"),
            (r"[a-z0-9-]+\.azurecr\.us", "https://management.usgovcloudapi.net"),
        ),
        capabilities=Capabilities(digest_lists=True, tag_delete="api"),
        offers=Offers(webhooks="yes", keyless="yes", limits="yes"),
        proof="contract",
        notes="Admin user, token or service principal work as user and password; `keyless: azure` is the worker's own "
        "managed or workload identity (with transship[azure] installed), exchanged for the registry's tokens. Webhooks are made "
        "with that only: a user and password, a service principal's neither, tell Resource Manager no tenant.",
    ),
    Provider(
        "gar",
        "Google Artifact Registry and gcr.io names",
        hosts=(r"[a-z0-9-]+-docker\.pkg\.dev", r"((us|eu|asia)\.)?gcr\.io"),
        api_urls=((r".*", "https://artifactregistry.googleapis.com"),),
        capabilities=Capabilities(digest_lists=True, uploads="whole"),
        offers=Offers(webhooks="yes", keyless="yes", create="yes"),
        namespace="repository",
        proof="contract",
        notes="The user _json_key with a service account's key: repositories of its own project in the host's location "
        "are listed, and made before the first push. `keyless: gcp` does the same as the worker's own identity (with "
        "transship[gcp] installed). An access token as password of oauth2accesstoken works for its hour, and neither "
        "lists nor makes.",
    ),
    Provider(
        "aliyun-acr",
        "Alibaba Container Registry",
        hosts=(
            r"registry(-vpc|-internal)?\.[a-z0-9-]+\.aliyuncs\.com",
            r"[a-z0-9-]+-registry(-vpc)?\.[a-z0-9-]+\.cr\.aliyuncs\.com",
        ),
        api_urls=(
            (
                r"[a-z0-9-]+-registry(?:-vpc)?\.([a-z0-9-]+)\.cr\.aliyuncs\.com",
                r"https://cr.\1.aliyuncs.com",
            ),
            (
                r"registry(?:-vpc|-internal)?\.([a-z0-9-]+)\.aliyuncs\.com",
                r"https://cr.\1.aliyuncs.com",
            ),
        ),
        capabilities=Capabilities(
            catalog=False, digest_lists=True, referrers="fallback", tag_delete="api"
        ),
        offers=Offers(webhooks="yes", keyless="yes", create="yes", referrers="no", limits="yes"),
        namespace="namespace",
        proof="contract",
        notes="An AccessKey ID (LTAI...) as user with its secret as password, at the Enterprise Edition and at the personal one "
        "(registry.REGION.aliyuncs.com): temporary passwords are got for it, namespaces and private repositories made. Fixed "
        "passwords work as user and password, and can only push and pull: then repositories are named in the rule, and "
        "made by the push where the namespace says so. `keyless: aliyun` is the worker's own identity (with transship[aliyun] "
        "installed). Webhooks are made at the Enterprise Edition.",
    ),
    Provider(
        "swr",
        "Huawei SWR",
        hosts=(r"swr\.[a-z0-9-]+\.myhuaweicloud\.(com|eu)",),
        capabilities=Capabilities(catalog=False, referrers="fallback", tag_delete="api"),
        offers=Offers(create="yes", referrers="no", events="no"),
        namespace="organization",
        proof="contract",
        notes="An access key (AK, or REGION@AK) with its secret key: the long-term login is made from it; one that was made "
        "works as user and password, too. Organizations are made before the first push; their names are unique over "
        "all accounts of a region. Tags are deleted by DeleteRepoTag, which an access key signs and a long-term login cannot.",
    ),
    Provider(
        "tcr",
        "Tencent TCR, enterprise",
        hosts=(r"[a-z0-9-]+\.tencentcloudcr\.com",),
        api_urls=((r".*", "https://tcr.tencentcloudapi.com"),),
        capabilities=Capabilities(catalog=False, digest_lists=True, tag_delete="api"),
        offers=Offers(webhooks="yes", create="yes", limits="yes"),
        namespace="namespace",
        proof="contract",
        notes="A SecretId as user with its SecretKey as password: temporary tokens are got for it, private namespaces "
        "and repositories made. Long-lived tokens and service accounts work as user and password, and can only push "
        "and pull. DeleteImage is documented for a version of an image; that it leaves siblings is looked at after it.",
    ),
    Provider(
        "ccr",
        "Tencent CCR, personal",
        hosts=(r"[a-z]*ccr\.ccs\.tencentyun\.com",),
        api_urls=((r".*", "https://tcr.tencentcloudapi.com"),),
        capabilities=Capabilities(catalog=False, referrers="fallback", tag_delete="api"),
        offers=Offers(create="yes", referrers="no", events="no", limits="yes"),
        namespace="namespace",
        proof="contract",
        notes="The account's number as user with the fixed password only pushes and pulls. With a password that is the JSON object "
        "{password, secret_id, secret_key}, repositories are listed, private ones made, and tags deleted by DeleteImagePersonal.",
    ),
    Provider(
        "quay",
        "Quay and quay.io",
        hosts=(r"quay\.io",),
        capabilities=Capabilities(digest_lists=True),
        offers=Offers(webhooks="yes", create="yes"),
        namespace="organization",
        proof="contract",
        notes="With the user `$oauthtoken` and an OAuth token, the repositories of the user's namespaces are listed, and "
        "digests by the page; for robots the catalog lists what they see. Repositories are made by the first push of who "
        "may create; organizations are made with an OAuth token that has user:admin.",
    ),
    Provider(
        "ghcr",
        "GitHub Container Registry",
        hosts=(r"ghcr\.io",),
        api_urls=((r".*", "https://api.github.com"),),
        capabilities=Capabilities(
            catalog=False, digest_lists=True, referrers="fallback", tag_delete="never"
        ),
        offers=Offers(webhooks="yes", delete="no", referrers="no"),
        proof="contract",
        notes="A classic token with read:packages, write:packages and read:org as password: packages of the user and of "
        "the user's organisations are listed. Its API deletes whole versions, with all of their tags: never done.",
    ),
    Provider(
        "gitlab",
        "GitLab",
        hosts=(r"registry\.gitlab\.com",),
        api_at_realm=True,
        capabilities=Capabilities(catalog=False, mount="same-namespace"),
        offers=Offers(create="yes"),
        namespace="project",
        proof="contract",
        notes="An access token with read_api, read_registry and write_registry as password. With api, "
        "too, a private project is made below a group or user that is there. Repositories of the projects that the user is a "
        "member of are listed.",
    ),
    Provider(
        "jfrog",
        "JFrog Artifactory",
        hosts=(r"[a-z0-9-]+\.jfrog\.io",),
        capabilities=Capabilities(mount="no"),
        offers=Offers(webhooks="yes", create="yes", mount="no"),
        namespace="repository",
        proof="contract",
        notes="Names are `<repository key>/<image>`, the repository path method. Missing keys are made as local Docker "
        "repositories, by a user that may create them; virtual and remote keys are listed, too.",
    ),
    Provider(
        "volcengine",
        "Volcengine CR",
        hosts=(r"[a-z0-9-]+\.cr\.i?volces\.com",),
        api_urls=((r".*", "https://open.volcengineapi.com"),),
        capabilities=Capabilities(catalog=False, digest_lists=True, tag_delete="api"),
        offers=Offers(keyless="yes", create="yes", events="no", limits="yes"),
        namespace="namespace",
        proof="contract",
        notes="An access key (AKLT...) as user with its secret key as password: temporary tokens are got for it, namespaces and "
        "private repositories made. Fixed passwords work as user and password, and can only push and pull. `keyless: volcengine` is "
        "the worker's own identity (with transship[volcengine] installed).",
    ),
    Provider(
        "artifacthub",
        "Artifact Hub, a source of charts",
        hosts=(r"artifacthub\.io",),
        capabilities=Capabilities(catalog=False, mount="no", tag_delete="never"),
        offers=Offers(push="no", delete="no", mount="no", webhooks="yes", limits="yes"),
        proof="contract",
        index=True,
        notes="Repositories are REPOSITORY/CHART of the index, tags their versions. A chart in a registry is copied from there, as it "
        "is; one in a classic repository is converted as `helm push` does, once its archive has the index's digest; "
        "without a digest, or over plain http, it is refused with that reason. Both are read without credentials; an API "
        "key (id as user, secret as password) is shown to the index alone. Provenance files are not taken along.",
    ),
    Provider(
        "zot",
        "zot",
        proof="the sample registry",
        notes="It sends CloudEvents by its own configuration, each once.",
    ),
    Provider("olareg", "olareg", offers=Offers(events="not offered"), proof="the sample registry"),
    GENERIC,
)

PROVIDERS = {row.name: row for row in _ROWS}

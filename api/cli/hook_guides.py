"""How each provider is told to send its events; docs/how-to/events.md says more of each."""

from __future__ import annotations

from dataclasses import dataclass

from service.model.endpoint import RegistryEndpoint
from service.registry.providers.recognise import configured


@dataclass(frozen=True, slots=True)
class Guide:
    """`in_address`: the sender cannot sign or send a header, so the secret goes into the address."""

    in_address: bool
    steps: str


GUIDES = {
    "distribution": Guide(
        False,
        """in the registry's config.yml, then restart it:
  notifications:
    endpoints:
      - name: transship
        url: {url}
        headers: {{Authorization: ["Bearer {secret}"]}}
        timeout: 2s
        threshold: 5
        backoff: 5s
        ignore: {{mediatypes: [application/octet-stream], actions: [pull]}}""",
    ),
    "gitlab": Guide(
        False,
        """in /etc/gitlab/gitlab.rb (self-managed only), then gitlab-ctl reconfigure:
  registry['notifications'] = [{{'name' => 'transship', 'url' => '{url}',
    'timeout' => '2s', 'threshold' => 5, 'backoff' => '5s',
    'headers' => {{'Authorization' => ['Bearer {secret}']}}}}]""",
    ),
    "harbor": Guide(
        False,
        """in each project: Webhooks, New Webhook
  Notify Type http; Payload Format Default or CloudEvents; events: Artifact pushed, Artifact deleted
  Endpoint URL: {url}
  Auth Header:  Bearer {secret}""",
    ),
    "tcr": Guide(
        False,
        """in the instance's console: Triggers, Create
  URL: {url}
  Header: Authorization: Bearer {secret}""",
    ),
    "dockerhub": Guide(True, "in each repository: Webhooks; Webhook URL: {url}"),
    "quay": Guide(
        True,
        """in each repository: Settings, Create Notification
  When this occurs: Push to Repository; then issue: Webhook POST; Webhook URL: {url}""",
    ),
    "ghcr": Guide(
        False,
        """in the organisation's or repository's settings: Webhooks, Add webhook
  Payload URL: {url}; Content type: application/json; Secret: {secret}
  events: Registry packages (and Packages)""",
    ),
    "ecr": Guide(
        False,
        """in the registry's region: EventBridge, a rule with the pattern
  {{"source": ["aws.ecr"], "detail-type": ["ECR Image Action"]}}
  whose target is an API destination with the endpoint {url}
  and a connection of type API key: name Authorization, value Bearer {secret}
  (by SNS instead: subscribe {url}/{secret} by HTTPS; then run this command again for the
  confirmation's address)""",
    ),
    "acr": Guide(
        False,
        """az acr webhook create -r REGISTRY -n transship --actions push delete \\
    --uri {url} --headers "Authorization=Bearer {secret}"
  (by Event Grid instead: a subscription of type webhook with the endpoint {url}/{secret})""",
    ),
    "gar": Guide(
        True,
        """gcloud pubsub topics create gcr   # once a project; the name is Google's
  gcloud pubsub subscriptions create transship --topic gcr --push-endpoint {url}""",
    ),
    "aliyun-acr": Guide(True, "in each repository: Trigger, Create; Trigger URL: {url}"),
    "jfrog": Guide(
        False,
        """Administration, General, Webhooks, New Webhook
  URL: {url}; Secret Token: {secret}; events: Docker, Tag was pushed, deleted, promoted""",
    ),
    "artifacthub": Guide(
        False,
        """in its control panel: Settings, Webhooks, Add webhook
  URL: {url}; Secret: {secret}; trigger: New releases; payload: Default; packages: those of your rules""",
    ),
    "zot": Guide(
        False,
        """in zot's configuration, then restart it (a zot with the events extension):
  "extensions": {{"events": {{"enable": true, "sinks": [{{"type": "http", "address": "{url}",
    "timeout": "5s", "credentials": {{"username": "zot", "password": "{secret}"}}}}]}}}}""",
    ),
}
GUIDES["github"] = GUIDES["ghcr"]


def likely_provider(url: str) -> str:
    """Return which provider's events a registry at this URL sends; distribution where nothing tells."""
    known = configured(RegistryEndpoint("", url.rstrip("/")))
    return known.name if known is not None and known.name in GUIDES else "distribution"

"""Who may log in to the embedded broker and what they may touch: the table of users and amqtt's plugins over it."""

import hashlib
import hmac

from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from cloud.core.access import permitted
from cloud.ports import BrokerUser
from wire.topics import valid_name


class Logins:
    """The table of users. A pinned user's client id is its name; no other client may use that as its id."""

    def __init__(self) -> None:
        self._users: dict[str, BrokerUser] = {}

    def replace(self, users: tuple[BrokerUser, ...]) -> None:
        """Make exactly these known."""
        self._users = {user.name: user for user in users}

    def login(self, client: str, name: str, password: str) -> BrokerUser | None:
        """The user that these credentials prove, if they do.

        The client id stands in the user's patterns, so one that holds a wildcard or a level of its own is refused.
        """
        user = self._users.get(name)
        known = user.verifier if user is not None else ""
        given = hashlib.sha256(password.encode()).hexdigest()
        if not hmac.compare_digest(given, known) or user is None or not valid_name(client):
            return None
        return user if self._of_client(client, name) == user else None

    def permitted(self, session: Session | None, topic: str, action: Action) -> bool:
        """May this connected client publish to, subscribe to or receive `topic`?"""
        if session is None or session.client_id is None:
            return False
        user = self._of_client(session.client_id, session.username or "")
        if user is None:
            return False
        patterns = user.publish if action is Action.PUBLISH else user.receive
        return permitted(patterns, session.client_id, topic)

    def _of_client(self, client: str, name: str) -> BrokerUser | None:
        owner = self._users.get(client)
        if owner is not None and owner.pinned:
            return owner if owner.name == name else None
        user = self._users.get(name)
        return None if user is None or user.pinned else user


logins = Logins()
"""amqtt creates the plugins by name, so they find the table here: one broker, one process."""


class LoginPlugin(BaseAuthPlugin):  # type: ignore[misc]
    """Password check, and the last will must be something that the client may publish itself."""

    async def authenticate(self, *, session: Session) -> bool:
        """Refuse anonymous, unknown, wrong password, a foreign client id, a foreign will."""
        client, name = session.client_id or "", session.username or ""
        user = logins.login(client, name, session.password or "")
        if user is None:
            return False
        return not session.will_flag or permitted(user.publish, client, session.will_topic or "")


class TopicPlugin(BaseTopicPlugin):  # type: ignore[misc]
    """Topic rules for publishing, subscribing and receiving."""

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool:
        """Allow what the user's patterns cover."""
        return topic is not None and action is not None and logins.permitted(session, topic, action)

"""The D-Bus side of LowMemoryMonitor: owns the name, sends the signal, and answers what consumers ask first.

GLib 2.74 asks for all properties before it listens: without an answer it delivered 0 of 3 signals (ran).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from jeepney import (
    DBusAddress,
    DBusErrorResponse,
    HeaderFields,
    Message,
    MessageFlag,
    MessageType,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, Proxy, open_dbus_connection

NAME = INTERFACE = "org.freedesktop.LowMemoryMonitor"
PATH = "/org/freedesktop/LowMemoryMonitor"
SIGNAL = "LowMemoryWarning"
TIMEOUT_S = 5.0
_DO_NOT_QUEUE, _PRIMARY_OWNER = 4, 1
_DBUS = "org.freedesktop.DBus"
_DOCTYPE = ('<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
            ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n')
_INTERFACES = """\
  <interface name="org.freedesktop.LowMemoryMonitor">
    <signal name="LowMemoryWarning"><arg name="level" type="y"/></signal>
  </interface>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg name="interface" type="s" direction="in"/><arg name="name" type="s" direction="in"/>
      <arg name="value" type="v" direction="out"/>
    </method>
    <method name="GetAll">
      <arg name="interface" type="s" direction="in"/><arg name="properties" type="a{sv}" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect"><arg name="xml" type="s" direction="out"/></method>
  </interface>
  <interface name="org.freedesktop.DBus.Peer">
    <method name="Ping"/>
    <method name="GetMachineId"><arg name="id" type="s" direction="out"/></method>
  </interface>
"""


class NoBusError(Exception):
    """There is no bus, or it lets us in no further."""


class NameTakenError(Exception):
    """Somebody else has the name, or we may not have it."""


class BusLostError(Exception):
    """The bus has gone."""


class Bus:
    """A connection that owns the name."""

    def __init__(self, connection: DBusConnection) -> None:
        self._connection = connection

    @classmethod
    def connect(cls) -> Bus:
        """Connect to the system bus (DBUS_SYSTEM_BUS_ADDRESS) and own the name. Raises NoBusError, NameTakenError."""
        try:
            connection = open_dbus_connection("SYSTEM")
        except Exception as error:
            raise NoBusError(f"the system bus: {type(error).__name__}: {error}") from error
        try:
            answer = Proxy(message_bus, connection, timeout=TIMEOUT_S).RequestName(NAME, _DO_NOT_QUEUE)[0]
        except DBusErrorResponse as error:
            connection.close()
            raise NameTakenError(f"the bus does not let us have {NAME}: {' '.join(map(str, error.data))}"
                                 " (is its policy file installed?)") from error
        except Exception as error:
            connection.close()
            raise NoBusError(f"the system bus: {type(error).__name__}: {error}") from error
        if answer != _PRIMARY_OWNER:
            connection.close()
            raise NameTakenError(f"another program has {NAME}: stop low-memory-monitor, if it is that")
        return cls(connection)

    def fileno(self) -> int:
        """Return what to wait on."""
        return int(self._connection.sock.fileno())

    def warn(self, warning: int) -> None:
        """Send the signal with 50, 100 or 255. Raises BusLostError."""
        self._send(new_signal(DBusAddress(PATH, interface=INTERFACE), SIGNAL, "y", (warning,)))

    def serve(self) -> None:
        """Answer whoever has asked something. Raises BusLostError.

        To be called once at the start, too: a question that came with the bus' own reply to `connect` lies in
        jeepney's buffer, where no poll sees it; an app that had waited for the name then never heard us (ran).
        """
        waiting: deque[Message] = deque()
        try:
            while True:
                waiting.append(self._connection.receive(timeout=0))
        except TimeoutError:
            pass
        except Exception as error:          # a reset, or bytes that are no message
            raise BusLostError(f"the bus has gone: {type(error).__name__}: {error}") from error
        for message in waiting:
            is_call = message.header.message_type == MessageType.method_call
            if is_call and not message.header.flags & MessageFlag.no_reply_expected:
                self._send(answer_to(message))

    def close(self) -> None:
        """Hang up; the name is free then."""
        self._connection.close()

    def _send(self, message: Message) -> None:
        try:
            self._connection.send(message)
        except OSError as error:
            raise BusLostError(f"the bus has gone: {error}") from error


def answer_to(call: Message) -> Message:
    """Return the reply to a method call."""
    fields = call.header.fields
    interface, member = fields.get(HeaderFields.interface, ""), fields.get(HeaderFields.member, "")
    answer = _ANSWERS.get(member)
    if answer is None or (interface and not interface.startswith(_DBUS)):
        return _refusal(call, "UnknownMethod", f"there is no method {member!r}")
    return answer(call)


def _properties(call: Message) -> Message:
    return new_method_return(call, "a{sv}", ({},))


def _property(call: Message) -> Message:
    return _refusal(call, "UnknownProperty", "it has no properties")


def _nothing(call: Message) -> Message:
    return new_method_return(call)


def _machine_id(call: Message) -> Message:
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return new_method_return(call, "s", (file.read(64).strip(),))
    except (OSError, ValueError):
        return _refusal(call, "FileNotFound", "this machine has no id")


def _introspection(call: Message) -> Message:
    return new_method_return(call, "s", (introspection(call.header.fields.get(HeaderFields.path, "/")),))


def introspection(path: str) -> str:
    """Return the XML of an object: the monitor's own, or a node on the way there."""
    if path == PATH:
        return f"{_DOCTYPE}<node>\n{_INTERFACES}</node>\n"
    start = path.rstrip("/") + "/"
    child = PATH[len(start):].split("/")[0] if PATH.startswith(start) else ""
    inner = f'  <node name="{child}"/>\n' if child else ""
    return f"{_DOCTYPE}<node>\n{inner}</node>\n"


def _refusal(call: Message, name: str, why: str) -> Message:
    return new_error(call, f"{_DBUS}.Error.{name}", "s", (why,))


_ANSWERS: dict[str, Callable[[Message], Message]] = {
    "GetAll": _properties, "Get": _property, "Set": _property, "Introspect": _introspection, "Ping": _nothing,
    "GetMachineId": _machine_id}

"""The lab as a whole: up, down, add, remove, and what tests ask of it."""

import json
from collections.abc import Iterable, Mapping, Sequence

from test.lab import apt, authority, hosts, images, machine, nameserver, processes, saltconf
from test.lab.commands import say, step
from test.lab.errors import LabError
from test.lab.hosts import Host
from test.lab.layout import (
    HOST_NUMBERS,
    NAME_SERVER,
    NAME_SERVER_NUMBER,
    RELEASE,
    Layout,
    check_host_name,
    layout_from_environment,
    release_of,
)

DEFAULT_HOSTS = ("_one.test", "_two.test")


class Lab:
    """One lab. Commands that change it wait for each other, in whatever process they run.

    Argument: ``layout`` says where; by default the environment does (`layout_from_environment`).
    """

    def __init__(self, layout: Layout | None = None) -> None:
        self.layout = layout or layout_from_environment()

    @property
    def hosts(self) -> dict[str, Host]:
        """The relay hosts by name."""
        return {name: host for name, host in self._all_hosts().items() if name != NAME_SERVER}

    @property
    def name_server(self) -> Host:
        """The host that serves the lab's zones."""
        return Host(NAME_SERVER, NAME_SERVER_NUMBER, self.layout)

    def host(self, name: str) -> Host:
        """A host by name, the name server too. Raises LabError if the lab has no such host."""
        found = self._all_hosts()
        if name not in found:
            have = ", ".join(found) or "no hosts; `python -m test.lab up` makes them"
            raise LabError(f"the lab has no host {name!r}; it has {have}")
        return found[name]

    def up(self, names: Sequence[str] = DEFAULT_HOSTS, *, raise_inotify: bool = True) -> dict[str, Host]:
        """Bring up the lab with at least these hosts; what runs already is left alone, what died is started again.

        New hosts have the release that the environment or their name chooses (`release_of`).

        Arguments: ``raise_inotify`` false leaves the machine's inotify limits, under which a relay can not serve many.
        Returns the relay hosts. Raises LabError.
        """
        names = [check_host_name(name) for name in names]
        machine.require_root_on_debian_12()
        with machine.lock(self.layout.lock):
            machine.install_packages()
            self._prepare(raise_inotify)
            for name in (NAME_SERVER, *names):
                self._enlist(name)
            everyone = self._all_hosts().values()
            asleep = [host for host in everyone if not host.is_running()]
            if asleep:
                with step(f"booting {', '.join(host.name for host in asleep)}"):
                    self._boot(asleep)
            else:
                say("already up")
            nameserver.wait_until_ready(self.layout)
            for host in everyone:
                nameserver.register(self.layout, host.name, host.ipv4, host.ipv6)
        return self.hosts

    def add(self, name: str, release: str | None = None, *, packages: bool = False) -> Host:
        """Add one host to a lab that is up. Raises LabError if there is one of that name.

        Arguments: ``release`` is the code name of its Debian release; by default `release_of` chooses. With
        ``packages`` it is not bare: Debian's packages of a relay are there, and none of their daemons has run.
        """
        check_host_name(name)
        with machine.lock(self.layout.lock):
            self._require_up()
            if name in self._all_hosts():
                raise LabError(f"the lab has a host {name} already; remove it first, or choose another name")
            self._enlist(name, release, packages)
            host = self.host(name)
            self._boot([host])
            nameserver.register(self.layout, name, host.ipv4, host.ipv6)
        return host

    def remove(self, name: str) -> None:
        """End a relay host and remove all that belongs to it. Raises LabError if there is none of that name."""
        with machine.lock(self.layout.lock):
            host = self.host(check_host_name(name))
            hosts.destroy(host)
            record = self._read_record()
            del record["hosts"][name]
            record["releases"].pop(name, None)
            record["packages"].pop(name, None)
            self._write_record(**record)
            saltconf.remove_pillar(self.layout, host.number)
            if self.name_server.is_running():
                nameserver.unregister(self.layout, name, host.ipv4, host.ipv6)

    def down(self) -> None:
        """Remove the lab: processes, interfaces, mounts, files. The cache stays. Needs nothing to be in order before.

        Raises LabError if something of it can not be removed.
        """
        machine.require_root_on_debian_12()
        with machine.lock(self.layout.lock):
            processes.end(processes.find(self.layout))
            # A program that was just being started is not recognised in that moment.
            processes_left = processes.end(processes.find(self.layout))
            if owner := machine.foreign_owner(self.layout):
                say(f"the bridge {self.layout.bridge} belongs to the lab in {owner} and stays")
            else:
                machine.take_down_links(self.layout)
                machine.remove_cgroups(self.layout)
            images.clean_unfinished(self.layout)
            self._restore_inotify_limits()
            machine.remove_tree(self.layout.run)
            machine.remove_tree(self.layout.state)
            if processes_left:
                left = ", ".join(f"{process.pid} ({process.command})" for process in processes_left)
                raise LabError(f"these processes of the lab do not end: {left}")
        say("down")

    def status(self) -> list[tuple[Host, str]]:
        """Every host, the name server first, with "running" or "down"."""
        return [(host, "running" if host.is_running() else "down") for host in self._all_hosts().values()]

    def publish(self, name: str, rdtype: str, values: Sequence[str], ttl: int = 0) -> None:
        """See `nameserver.publish`."""
        nameserver.publish(self.layout, name, rdtype, values, ttl)

    def withdraw(self, name: str, rdtype: str | None = None) -> None:
        """See `nameserver.withdraw`."""
        nameserver.withdraw(self.layout, name, rdtype)

    def pillar(self, name: str, pillar: Mapping) -> None:
        """Make `pillar` (such as ``{"chatmail": {"mail_domain": name}}``, the first one) the whole pillar of a host."""
        saltconf.write_pillar(self.layout, self.host(name).number, pillar)

    def salt_ssh(self, name: str, *args: str, timeout: float = 600):
        """Run ``salt-ssh name args...`` and return the function's result; see `saltconf.salt_ssh` for the errors."""
        return saltconf.salt_ssh(self.layout, self.host(name).name, args, timeout=timeout)

    def salt_ssh_argv(self, name: str, *args: str) -> list[str]:
        """The command line that `salt_ssh` runs, for callers that want its output while it works."""
        return saltconf.salt_ssh_argv(self.layout, self.host(name).name, args)

    def resolver_argv(self, argv: Iterable[str]) -> list[str]:
        """The command line that runs `argv` on the machine with the lab's name server as its resolver."""
        script = 'mount --bind -- "$0" /etc/resolv.conf && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, str(self.layout.resolv_conf), *argv]

    def _prepare(self, raise_inotify: bool) -> None:
        layout = self.layout
        machine.set_up_bridge(layout)
        (layout.run / "ssh").mkdir(parents=True, exist_ok=True)
        (layout.run / "ssh").chmod(0o700)
        layout.state.mkdir(parents=True, exist_ok=True)
        layout.state.chmod(0o700)
        layout.resolv_conf.write_text(hosts.resolv_conf(layout))
        if raise_inotify:
            if low := machine.low_inotify_limits():
                self.layout.inotify_record.parent.mkdir(parents=True, exist_ok=True)
                self.layout.inotify_record.write_text(json.dumps(low))
            machine.raise_inotify_limits(low)
        apt.start_cache(layout)
        hosts.make_ssh_key(layout.ssh_key, "chatmail-lab")
        nameserver.make_secret(layout)
        authority.make_server_pair(layout)

    def _restore_inotify_limits(self) -> None:
        """The last lab that goes puts back the machine's limits, which hold for the hosts of all."""
        if self.layout.inotify_record.exists() and not machine.other_labs(self.layout):
            machine.restore_inotify_limits(json.loads(self.layout.inotify_record.read_text()))
            self.layout.inotify_record.unlink()

    def _enlist(self, name: str, release: str | None = None, packages: bool = False) -> None:
        record = self._read_record()
        numbers = record["hosts"]
        if name in numbers:
            return
        if name == NAME_SERVER:
            numbers = {name: NAME_SERVER_NUMBER} | numbers
            release = RELEASE
        else:
            numbers[name] = next((number for number in HOST_NUMBERS if number not in numbers.values()), 0)
        if not numbers[name]:
            raise LabError(f"the lab is full with {len(numbers)} hosts; remove one first")
        releases = record["releases"] | {name: release or release_of(name)}
        self._write_record(hosts=numbers, releases=releases, packages=record["packages"] | {name: packages})

    def _boot(self, asleep: Sequence[Host]) -> None:
        booting = []
        for host in asleep:
            hosts.create(host)
            booting.append((host, hosts.boot(host)))
        for host, nspawn in booting:
            hosts.wait_until_up(host, nspawn)
            hosts.enable(host)

    def _require_up(self) -> None:
        if not self._read_record()["hosts"] or not self.name_server.is_running():
            raise LabError("the lab is not up; `python -m test.lab up` brings it up")

    def _all_hosts(self) -> dict[str, Host]:
        record = self._read_record()
        return {
            name: Host(
                name, number, self.layout, record["releases"].get(name, RELEASE), record["packages"].get(name, False)
            )
            for name, number in record["hosts"].items()
        }

    def _read_record(self) -> dict:
        """What can not be found out by looking: the hosts' numbers and releases, and which have a relay's packages."""
        empty = {"hosts": {}, "releases": {}, "packages": {}}
        return empty | json.loads(self.layout.record.read_text()) if self.layout.record.exists() else empty

    def _write_record(self, **changes: dict) -> None:
        record = self._read_record() | changes
        new = self.layout.record.with_suffix(".new")
        new.write_text(json.dumps(record, indent=2))
        new.replace(self.layout.record)
        if "hosts" in changes:
            relays = {name: number for name, number in record["hosts"].items() if name != NAME_SERVER}
            saltconf.write_config(self.layout, relays)
            self.layout.ssh_config.parent.mkdir(exist_ok=True)
            self.layout.ssh_config.write_text(hosts.ssh_config(self.layout, record["hosts"]))

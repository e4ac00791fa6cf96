"""Who can read what on a relay: each account what is its own, and nobody the secrets of another one."""

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase

from test.lab import Host, Lab
from test.relay.delivery import new_user
from test.support.mailing import submit
from test.support.messages import encrypted

ON_BOTH_RELEASES = True
# On the host: what each account can do beyond what nobody can, which is what everybody can: files to read, sockets to
# connect to. And where a word of a secret file is in a file that everybody reads.
SURVEY = """
import glob, json, os, pwd, re, stat, sys
ROOTS = "/boot /dev/shm /etc /home /media /mnt /opt /root /run /srv /tmp /usr/local /var".split()
APART = ("/run/host", "/var/lib/dpkg", "/var/cache", "/var/lib/apt")
found = []
for root in ROOTS:
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if not os.path.join(directory, name).startswith(APART)]
        for path in (os.path.join(directory, name) for name in files):
            kind = stat.S_IFMT(os.lstat(path).st_mode) if os.path.lexists(path) else 0
            if kind in (stat.S_IFREG, stat.S_IFSOCK, stat.S_IFIFO):
                found.append((path, os.R_OK if kind == stat.S_IFREG else os.W_OK))

def reached(user, group, groups):
    read, write = os.pipe()
    if not os.fork():
        os.setgroups(groups)
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
        with os.fdopen(write, "w") as out:
            json.dump([path for path, mode in found if os.access(path, mode)], out)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        paths = json.load(answer)
    os.wait()
    return set(paths)

nobody = pwd.getpwnam("nobody")
public = reached(nobody.pw_uid, nobody.pw_gid, [])
users = {
    entry.pw_name: sorted(reached(entry.pw_uid, entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)) - public)
    for entry in pwd.getpwall() if entry.pw_uid
}

def content(path):
    if not stat.S_ISREG(os.stat(path).st_mode):
        return b""
    with open(path, "rb") as file:
        return file.read(10_000_000)

secrets = {}
for pattern in json.loads(sys.argv[1]):
    paths = glob.glob(pattern)
    assert paths, pattern
    for path in paths:
        secrets |= dict.fromkeys(re.findall(rb"\\S{24,}", content(path)), path)
told = []
for path in public:
    text = content(path)
    told += [f"{secret} in {path}" for word, secret in secrets.items() if word in text]
print(json.dumps({"users": users, "told": told}))
"""
SECRETS = [
    "/etc/chatmail/turn-secret",
    "/etc/dkimkeys/*.private",
    "/etc/ssl/private/*",
    "/home/vmail/mail/*/*/password",
    "/var/lib/doveauth/*",
]
# What an account but root can reach and everybody cannot. Root alone reads the certificate's key and the TURN secret.
OWN = {
    # Mail, hashes of passwords, invites; the services that its own services ask.
    "vmail": [
        *("/home/vmail/*", "/dev/shm/chatmail/*", "/var/lib/doveauth/*"),
        *("/run/doveauth/*", "/run/chatmail-lastlogin/*", "/run/chatmail-metadata/*", "/run/chatmail-turn/*"),
        *("/run/dovecot/quota-warning", "/run/echobot/password", "/run/operator-bot/password"),
    ],
    "www-data": ["/run/chatmail-newemail/*", "/var/log/nginx/*", "/var/lib/nginx/*"],
    "opendkim": ["/etc/dkimkeys/*", "/run/opendkim/*", "/var/spool/postfix/opendkim/opendkim.sock"],
    "postfix": ["/var/spool/postfix/*", "/var/lib/postfix/*"],
    "dovecot": ["/run/dovecot/*", "/etc/dovecot/*.ext"],
    "dovenull": ["/run/dovecot/*"],
    "unbound": ["/run/unbound.ctl"],
    "_mta-sts": ["/var/lib/mta-sts/*"],
    "turnserver": ["/run/coturn/*", "/run/credentials/coturn.service/*", "/var/lib/turn/*"],
    # Debian makes it a member of adm.
    "mtail": ["/run/log/journal/*", "/var/log/*"],
    # Its own, and the hash of its password for doveauth.
    "echobot": ["/var/lib/echobot/*", "/run/echobot/*"],
    # By the socket it asks the host for one of four things.
    "operator-bot": ["/var/lib/operator-bot/*", "/run/operator-bot/*", "/run/chatmail-operator/host.socket"],
}


def survey_of(host: Host, secrets: list[str]) -> Mapping:
    """What the accounts of the host reach that is not their own, and where a secret of these files is told to all."""
    survey = json.loads(host.run(["python3", "-c", SURVEY, json.dumps(secrets)], timeout=120).stdout)
    strange = {
        user: [path for path in paths if not any(fnmatchcase(path, own) for own in OWN.get(user, []))]
        for user, paths in survey["users"].items()
    }
    return {"strange": {user: paths for user, paths in strange.items() if paths}, "told": survey["told"]}


def test_nobody_reaches_what_is_another_one_s(lab: Lab, one_host: Host, one):
    writer, reader = new_user(one), new_user(one)
    assert submit(writer, reader.address, encrypted(writer.address, reader.address)) is None
    lab.salt_ssh(one_host.name, "chatmail_account.invite")
    assert survey_of(one_host, SECRETS) == {"strange": {}, "told": []}

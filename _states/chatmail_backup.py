"""
What a backup needs that no apply can make.
"""

from pathlib import Path


def __virtual__():
    return "chatmail_backup"


def password_there(name):
    """
    Promise that the file with the repository's password is there, and is root's alone; it changes nothing.

    .. code-block:: yaml

        backup-password:
          chatmail_backup.password_there:
            - name: /root/chatmail-backup-password

    name
        Its path.
    """
    path = Path(name)
    problem = ""
    if not path.is_file() or not path.stat().st_size:
        problem = (
            f"backup_password_file: {name} is not there, or empty. Make a password on your own computer, where a copy "
            f"stays, and put it on the host: `openssl rand -hex 32 > backup-password; ssh root@HOST 'umask 077; cat > "
            f"{name}' < backup-password`. Nobody can read the backup without it."
        )
    elif path.stat().st_mode & 0o077:
        problem = f"backup_password_file: {name} can be read by others; on the host: chmod 0600 {name}"
    comment = problem or "The password of the repository is there."
    return {"name": name, "changes": {}, "result": not problem, "comment": comment}

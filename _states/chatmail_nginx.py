"""State for nginx's configuration as a whole, operators' files among it."""


def __virtual__():
    return "chatmail_nginx"


def valid(name):
    """
    nginx accepts its configuration with all that it includes, so that it can be reloaded, and starts at the next boot.

    .. code-block:: yaml

        nginx-valid:
          chatmail_nginx.valid:
            - name: /etc/nginx/nginx.conf

    name
        Path of the configuration.

    ``check_cmd`` of ``file.managed`` looks only when that file itself is to change. This changes nothing.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "nginx accepts its configuration."}
    if __opts__["test"] and not __salt__["cmd.has_exec"]("nginx"):
        ret.update(result=None, comment="The configuration would be checked.")
        return ret
    tested = __salt__["cmd.run_all"](["nginx", "-t", "-q", "-c", name], python_shell=False, ignore_retcode=True)
    if tested["retcode"]:
        comment = "nginx refuses its configuration; what runs goes on. Fix this and apply again:"
        ret.update(result=False, comment=f"{comment}\n{tested['stderr'].strip()}")
    return ret

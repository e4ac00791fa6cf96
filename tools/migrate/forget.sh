#!/bin/sh
# Removes what make-key.sh has made.
rm -rf /run/chatmail-migrate

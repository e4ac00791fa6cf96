#!/bin/sh
# Installs rsync where it is missing.
command -v rsync > /dev/null && exit
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update && apt-get -qq install --no-install-recommends rsync > /dev/null

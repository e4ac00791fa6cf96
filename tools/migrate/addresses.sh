#!/bin/sh
# Prints the host's own addresses.
ip -brief address show scope global up | tr -s ' ' '\n' | grep / | cut --delimiter=/ --fields=1

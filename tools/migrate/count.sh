#!/bin/sh
# Counts mailboxes in $1, messages in them, and messages in Postfix's directories, the further arguments.
mailboxes=$1; shift
find "$mailboxes" -mindepth 1 -maxdepth 1 -type d -name '*@*' | wc -l
find "$mailboxes" -type f '(' -path '*/cur/*' -o -path '*/new/*' ')' | wc -l
find "$@" -type f | wc -l

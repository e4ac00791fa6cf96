#!/bin/sh
# Prints how many megabytes the directory $1 takes.
du --summarize --block-size=M "$1" | cut --fields=1

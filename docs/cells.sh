# What the cells of commands begin with: a command that fails ends its page.
set -e

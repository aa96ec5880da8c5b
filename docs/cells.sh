# What the cells of commands begin with: a command that fails ends its page.
set -e
# Jupyter asks commands for colours that a page cannot show.
unset FORCE_COLOR CLICOLOR CLICOLOR_FORCE
export TERM=dumb COLUMNS=88

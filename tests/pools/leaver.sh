#!/bin/sh
# A balancer in a file beside this program: "in", "ours", or an operator's mark.
set -e
[ "$#" = 1 ] && [ "$1" = 'an argument; with $(touch /tmp/x) "signs"' ] || { echo "wrong arguments" >&2; exit 2; }
read -r question
stands=$(cat "$0.state")
case $question in
'{"version":1,"verb":"prepare"}')
    [ "$stands" = ours ] && stands=in
    printf '{"stood":"%s"}' "$stands"
    ;;
'{"version":1,"verb":"leave","before":{"stood":"in"}}')
    [ "$stands" = in ] && echo ours >"$0.state" || true
    ;;
'{"version":1,"verb":"leave",'*) ;;
'{"version":1,"verb":"status"'*)
    case $stands in in) echo '{"membership":"in"}' ;; *) echo '{"membership":"out"}' ;; esac
    ;;
'{"version":1,"verb":"rejoin","before":{"stood":'*)
    case $stands in
    in) ;;
    ours) echo in >"$0.state" ;;
    *) printf '{"left-alone":"%s"}' "$stands" ;;
    esac
    ;;
*)
    echo "not understood: $question" >&2
    exit 2
    ;;
esac

# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_drainctl_global_optspecs
    string join \n h/help V/version
end

function __fish_drainctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_drainctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_drainctl_using_subcommand
    set -l cmd (__fish_drainctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c drainctl -n "__fish_drainctl_needs_command" -s h -l help -d 'Print help'
complete -c drainctl -n "__fish_drainctl_needs_command" -s V -l version -d 'Print version'
complete -c drainctl -n "__fish_drainctl_needs_command" -f -a "install" -d 'Make this host drain before it stops: finds the units, writes config and units, enables and starts the hook'
complete -c drainctl -n "__fish_drainctl_needs_command" -f -a "uninstall" -d 'Take everything away again: rejoins first, drains nothing, stops no unit but our own'
complete -c drainctl -n "__fish_drainctl_needs_command" -f -a "drain" -d 'Leave the pools, wait until nothing is in flight'
complete -c drainctl -n "__fish_drainctl_needs_command" -f -a "rejoin" -d 'Take the host back into the pools that a drain took it out of, once the programs are up and well'
complete -c drainctl -n "__fish_drainctl_needs_command" -f -a "rehearse" -d 'Drain and rejoin for real, without stopping anything: what a shutdown would do, with its report'
complete -c drainctl -n "__fish_drainctl_needs_command" -f -a "status" -d 'What a drain would wait for right now, and what stands ready for it; while one runs, what that one sees'
complete -c drainctl -n "__fish_drainctl_needs_command" -f -a "skip" -d 'End the wait of the drain that is running: go on at once, in order'
complete -c drainctl -n "__fish_drainctl_needs_command" -f -a "extend" -d 'Give the drain that is running more time'
complete -c drainctl -n "__fish_drainctl_needs_command" -f -a "abort" -d 'Undo the drain that is running: the host is back in its pools'
complete -c drainctl -n "__fish_drainctl_needs_command" -f -a "report" -d 'What a drain waited for, and what it cut: the last one, or the one that is named'
complete -c drainctl -n "__fish_drainctl_needs_command" -f -a "doctor" -d 'Prove before a shutdown that its drain would work: the hook, the order of the stop, time limits, pools. Changes nothing'
complete -c drainctl -n "__fish_drainctl_needs_command" -f -a "run" -d 'Run a server, and drain it before it is told to stop'
complete -c drainctl -n "__fish_drainctl_needs_command" -f -a "demo" -d 'See it work: backends, a balancer and load on this machine, drained against killed'
complete -c drainctl -n "__fish_drainctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c drainctl -n "__fish_drainctl_using_subcommand install" -l unit -d 'The unit of the programs to drain; found by itself where they run under supervisord. May be given several times' -r
complete -c drainctl -n "__fish_drainctl_using_subcommand install" -l keep -d 'A unit that must outlive the drain, besides what the programs are seen to use and all that the boot starts ([hold] in the config). May be given several times; remembered' -r
complete -c drainctl -n "__fish_drainctl_using_subcommand install" -l dry-run -d 'Only say what would be done'
complete -c drainctl -n "__fish_drainctl_using_subcommand install" -s h -l help -d 'Print help'
complete -c drainctl -n "__fish_drainctl_using_subcommand uninstall" -l purge -d 'Remove the config even where it is not as `install` wrote it'
complete -c drainctl -n "__fish_drainctl_using_subcommand uninstall" -l dry-run -d 'Only say what would be done'
complete -c drainctl -n "__fish_drainctl_using_subcommand uninstall" -s h -l help -d 'Print help'
complete -c drainctl -n "__fish_drainctl_using_subcommand drain" -l deadline -d 'The most it may take, with its unit ("90s", "5m"); by default what the config says for the cause' -r
complete -c drainctl -n "__fish_drainctl_using_subcommand drain" -l force -d 'Drain also where nobody else is healthy'
complete -c drainctl -n "__fish_drainctl_using_subcommand drain" -l json -d 'One JSON object a line for each event'
complete -c drainctl -n "__fish_drainctl_using_subcommand drain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c drainctl -n "__fish_drainctl_using_subcommand rejoin" -l now -d 'Don\'t wait for the programs'
complete -c drainctl -n "__fish_drainctl_using_subcommand rejoin" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c drainctl -n "__fish_drainctl_using_subcommand rehearse" -l deadline -d 'The most the drain may take, with its unit ("90s", "5m"); by default what the config says for a restart' -r
complete -c drainctl -n "__fish_drainctl_using_subcommand rehearse" -l force -d 'Also where nobody else is left to serve, or where that can\'t be told: requests fail meanwhile'
complete -c drainctl -n "__fish_drainctl_using_subcommand rehearse" -l json -d 'One JSON object a line for each event'
complete -c drainctl -n "__fish_drainctl_using_subcommand rehearse" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c drainctl -n "__fish_drainctl_using_subcommand status" -l json -d 'As one JSON object'
complete -c drainctl -n "__fish_drainctl_using_subcommand status" -l fleet -d 'Who holds the slots of the fleet, since when and why'
complete -c drainctl -n "__fish_drainctl_using_subcommand status" -l watch -d 'Show the drain that is running until it ends'
complete -c drainctl -n "__fish_drainctl_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c drainctl -n "__fish_drainctl_using_subcommand skip" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c drainctl -n "__fish_drainctl_using_subcommand extend" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c drainctl -n "__fish_drainctl_using_subcommand abort" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c drainctl -n "__fish_drainctl_using_subcommand report" -l html -d 'Write it as a page for a browser, which needs nothing else, with a timeline' -r -F
complete -c drainctl -n "__fish_drainctl_using_subcommand report" -l metrics -d 'Write the last drain and the totals of all as metrics, for node_exporter\'s textfile collector' -r -F
complete -c drainctl -n "__fish_drainctl_using_subcommand report" -l list -d 'Name all that are kept, the newest first'
complete -c drainctl -n "__fish_drainctl_using_subcommand report" -l json -d 'As JSON: the whole report, or with --list an array of all of them'
complete -c drainctl -n "__fish_drainctl_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c drainctl -n "__fish_drainctl_using_subcommand doctor" -l order -d 'Draw what a shutdown stops, and in which order, into FILE: .svg or .dot' -r
complete -c drainctl -n "__fish_drainctl_using_subcommand doctor" -l json -d 'As one JSON object'
complete -c drainctl -n "__fish_drainctl_using_subcommand doctor" -l all -d 'Also show the time limits, who else is out of the pools, and what outlives the drain'
complete -c drainctl -n "__fish_drainctl_using_subcommand doctor" -l fix -d 'Mend what touches only our own units (write them, read them in, enable, start), say so, and look again'
complete -c drainctl -n "__fish_drainctl_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c drainctl -n "__fish_drainctl_using_subcommand run" -l service -d 'A service of the local Consul agent, by name or id, that is set into maintenance. May be repeated' -r
complete -c drainctl -n "__fish_drainctl_using_subcommand run" -l config -d 'Settings and pools of this program, as in /etc/drainctl/drainctl.toml. Without it that file counts, but for its pools' -r -F
complete -c drainctl -n "__fish_drainctl_using_subcommand run" -l check -d 'A URL that must answer 2xx before the program goes back into its pools' -r
complete -c drainctl -n "__fish_drainctl_using_subcommand run" -l deadline -d 'The most a drain may take, with its unit ("90s", "5m"); by default `deadline.restart`' -r
complete -c drainctl -n "__fish_drainctl_using_subcommand run" -l drain-on -d 'The signals that drain before they are passed on' -r
complete -c drainctl -n "__fish_drainctl_using_subcommand run" -l name -d 'What to call the program; by default what supervisord calls it, or the name of its file' -r
complete -c drainctl -n "__fish_drainctl_using_subcommand run" -l state -d 'Where to keep what its drains did; by default below /var/lib/drainctl, or in the user\'s own folder of state' -r -F
complete -c drainctl -n "__fish_drainctl_using_subcommand run" -l group -d 'Pass signals on to all processes in the program\'s group, as supervisord\'s stopasgroup does'
complete -c drainctl -n "__fish_drainctl_using_subcommand run" -s h -l help -d 'Print help'
complete -c drainctl -n "__fish_drainctl_using_subcommand demo" -l load -d 'How long there is load before and after each stop' -r
complete -c drainctl -n "__fish_drainctl_using_subcommand demo" -l json -d 'Only the result, as one JSON object'
complete -c drainctl -n "__fish_drainctl_using_subcommand demo" -s h -l help -d 'Print help'
complete -c drainctl -n "__fish_drainctl_using_subcommand help; and not __fish_seen_subcommand_from install uninstall drain rejoin rehearse status skip extend abort report doctor run demo help" -f -a "install" -d 'Make this host drain before it stops: finds the units, writes config and units, enables and starts the hook'
complete -c drainctl -n "__fish_drainctl_using_subcommand help; and not __fish_seen_subcommand_from install uninstall drain rejoin rehearse status skip extend abort report doctor run demo help" -f -a "uninstall" -d 'Take everything away again: rejoins first, drains nothing, stops no unit but our own'
complete -c drainctl -n "__fish_drainctl_using_subcommand help; and not __fish_seen_subcommand_from install uninstall drain rejoin rehearse status skip extend abort report doctor run demo help" -f -a "drain" -d 'Leave the pools, wait until nothing is in flight'
complete -c drainctl -n "__fish_drainctl_using_subcommand help; and not __fish_seen_subcommand_from install uninstall drain rejoin rehearse status skip extend abort report doctor run demo help" -f -a "rejoin" -d 'Take the host back into the pools that a drain took it out of, once the programs are up and well'
complete -c drainctl -n "__fish_drainctl_using_subcommand help; and not __fish_seen_subcommand_from install uninstall drain rejoin rehearse status skip extend abort report doctor run demo help" -f -a "rehearse" -d 'Drain and rejoin for real, without stopping anything: what a shutdown would do, with its report'
complete -c drainctl -n "__fish_drainctl_using_subcommand help; and not __fish_seen_subcommand_from install uninstall drain rejoin rehearse status skip extend abort report doctor run demo help" -f -a "status" -d 'What a drain would wait for right now, and what stands ready for it; while one runs, what that one sees'
complete -c drainctl -n "__fish_drainctl_using_subcommand help; and not __fish_seen_subcommand_from install uninstall drain rejoin rehearse status skip extend abort report doctor run demo help" -f -a "skip" -d 'End the wait of the drain that is running: go on at once, in order'
complete -c drainctl -n "__fish_drainctl_using_subcommand help; and not __fish_seen_subcommand_from install uninstall drain rejoin rehearse status skip extend abort report doctor run demo help" -f -a "extend" -d 'Give the drain that is running more time'
complete -c drainctl -n "__fish_drainctl_using_subcommand help; and not __fish_seen_subcommand_from install uninstall drain rejoin rehearse status skip extend abort report doctor run demo help" -f -a "abort" -d 'Undo the drain that is running: the host is back in its pools'
complete -c drainctl -n "__fish_drainctl_using_subcommand help; and not __fish_seen_subcommand_from install uninstall drain rejoin rehearse status skip extend abort report doctor run demo help" -f -a "report" -d 'What a drain waited for, and what it cut: the last one, or the one that is named'
complete -c drainctl -n "__fish_drainctl_using_subcommand help; and not __fish_seen_subcommand_from install uninstall drain rejoin rehearse status skip extend abort report doctor run demo help" -f -a "doctor" -d 'Prove before a shutdown that its drain would work: the hook, the order of the stop, time limits, pools. Changes nothing'
complete -c drainctl -n "__fish_drainctl_using_subcommand help; and not __fish_seen_subcommand_from install uninstall drain rejoin rehearse status skip extend abort report doctor run demo help" -f -a "run" -d 'Run a server, and drain it before it is told to stop'
complete -c drainctl -n "__fish_drainctl_using_subcommand help; and not __fish_seen_subcommand_from install uninstall drain rejoin rehearse status skip extend abort report doctor run demo help" -f -a "demo" -d 'See it work: backends, a balancer and load on this machine, drained against killed'
complete -c drainctl -n "__fish_drainctl_using_subcommand help; and not __fish_seen_subcommand_from install uninstall drain rejoin rehearse status skip extend abort report doctor run demo help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

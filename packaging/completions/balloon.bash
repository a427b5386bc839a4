# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# bash completion for balloond, balloon-vmm, balloonctl and balloon-sim. What it offers, the programs say themselves (--help), and the
# daemon: guests and reservations.

# Of a help text the names below a heading, one a line: "-o,--output" as two.
_balloon_names() {  # HEADING HELP
  awk -v heading="$1:" '
    /^[A-Z][A-Za-z ]*:/ { inside = $0 == heading; next }
    inside && /^$/ { inside = 0 }
    inside && /^  [^ ]/ { count = split($1, names, ","); for (i = 1; i <= count; ++i) print names[i] }' <<<"$2"
}

# Of a help text what an option takes: "TEXT:{table,json}=table"; nothing when it takes no value.
_balloon_value_of() {  # OPTION HELP
  awk -v option="$1" '
    /^  -/ {
      count = split($1, names, ",")
      for (i = 1; i <= count; ++i) if (names[i] == option && $2 ~ /^([A-Z][A-Z]+([^a-z]|$)|\{)/) { print $2; exit }
    }' <<<"$2"
}

# Names that the daemon knows: of its guests, or the ids of its reservations. Nothing when it does not answer within a second.
_balloon_known() {  # BALLOONCTL-AND-OPTIONS... KEY COMMAND
  local -a call=("${@:1:$#-2}")
  local key=${*: -2:1} command=${*: -1}
  # A label may be called as the key is: labels go first.
  "${call[@]}" "$command" --timeout 1s -o json 2>/dev/null | tr -d '\n' | sed -E 's/"labels" *: *\{[^}]*\}//g' |
    grep -oE "[{,] *\"$key\" *: *\"[A-Za-z0-9._-]+\"" | sed -E 's/.*"([^"]*)"$/\1/' | sort -u
}

_balloon() {
  local program=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} words="" value="" previous="" help word general
  local -a path=("$program") connection=() positionals=()
  local at taken=0
  COMPREPLY=()
  general=$("$program" --help 2>/dev/null) || return
  help=$general
  for ((at = 1; at < COMP_CWORD; ++at)); do
    word=${COMP_WORDS[at]}
    if [[ $word == "=" ]]; then
      continue
    elif [[ -n $value ]]; then  # what the option before it takes
      [[ $previous == --socket ]] && connection=(--socket "${word//\\/}")
      value=""
    elif [[ $word == -* ]]; then
      previous=$word
      value=$(_balloon_value_of "$word" "$help")
      [[ -n $value ]] || value=$(_balloon_value_of "$word" "$general")
    elif _balloon_names Subcommands "$help" | grep -qxF -- "$word"; then
      path+=("$word")
      help=$("${path[@]}" --help 2>/dev/null) || return
      taken=0
    else
      taken=$((taken + 1))
    fi
  done
  [[ $cur == "=" ]] && cur=""

  if [[ -n $value ]]; then
    case $value in
      *'{'*'}'*) words=${value#*\{} words=${words%%\}*} words=${words//,/ } ;;
    esac
    case $previous in
      --guest) words=$(_balloon_known "$program" "${connection[@]}" name list) ;;
      --log-level) words="debug info warning error" ;;
    esac
  elif [[ $cur == -* ]]; then
    words=$(_balloon_names Options "$help")
  else
    mapfile -t positionals < <(_balloon_names Positionals "$help")
    words=$(_balloon_names Subcommands "$help")
    case ${positionals[taken]:-} in
      GUEST) words=$(_balloon_known "$program" "${connection[@]}" name list) ;;
      ID) words=$(_balloon_known "$program" "${connection[@]}" id reservations) ;;
      STATE) words="on off" ;;
    esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

# Files where nothing better is known.
complete -o default -F _balloon balloond balloon-vmm balloonctl balloon-sim

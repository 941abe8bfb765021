#!/bin/bash
# What scripts are made of, for a run in both worlds that must print the same bytes.
set -u
export LC_ALL=C

section() { printf '== %s\n' "$*"; }

section pipelines
seq 1 200 | grep 7 | sort -rn | head -5 | tr '\n' ' '
echo
yes | head -2000 | wc -l | tr -d ' '
printf 'c\nb\na\n' | sort | while read -r line; do echo "line $line"; done
echo one two three | { read -r a b c; echo "$c $b $a"; }
seq 1 5 | tee /dev/stderr 2> /dev/null | { sum=0; while read -r n; do sum=$((sum + n)); done; echo "sum $sum"; }
seq 3 | xargs -n 1 echo item

section substitution
x=$(echo "$(echo nested "$(echo deep)")")
echo "$x"
y=`expr 6 \* 7`
echo "$y"
echo "lines: $(printf 'a\nb\nc' | wc -l | tr -d ' ')"
echo "status: $(exit 3; echo unreachable)$?"
for word in $(echo alpha beta gamma); do printf '<%s>' "$word"; done
echo
declare -A sizes=([small]=1 [large]=100)
for key in $(printf '%s\n' "${!sizes[@]}" | sort); do echo "$key=${sizes[$key]}"; done

section subshells
v=outer
(v=inner; echo "$v"; cd /usr && pwd)
echo "$v $(cd / && pwd)"
(exit 5); echo "left with $?"
( (echo two deep; exit 2); echo "inner $?" ; exit 4); echo "outer $?"
depth() {
    local n=$1
    if [ "$n" -eq 0 ]; then echo bottom; return 0; fi
    (depth $((n - 1)))
}
depth 8

section background
# Each job waits for a byte of the one before it, whatever the machine is doing meanwhile.
mkfifo "/tmp/script-turns-$$"
exec 9<> "/tmp/script-turns-$$"
rm "/tmp/script-turns-$$"
echo 1 >&9
for i in 3 1 2; do
    (
        while read -r turn <&9 && [ "$turn" != "$i" ]; do echo "$turn" >&9; sleep 0.01; done
        echo "job $i"
        echo "$((turn + 1))" >&9
    ) &
done
wait
exec 9>&-
echo all done
echo "jobs left: $(jobs -r | wc -l | tr -d ' ')"
(exit 9) & pid=$!
wait "$pid"; echo "waited for $?"
sleep 30 & pid=$!
kill "$pid"; wait "$pid" 2> /dev/null; echo "killed: $?"
(sleep 0.1; exit 1) & first=$!
(sleep 0.2; exit 2) & second=$!
wait "$second"; echo "second $?"
wait "$first"; echo "first $?"

section traps
trap 'echo got USR1' USR1
kill -USR1 $$
echo after the trap
(trap 'echo cleaning up' EXIT; exit 6); echo "ended with $?"
(trap 'echo interrupted; exit 7' TERM; kill -TERM $BASHPID; sleep 5); echo "trapped $?"
trap - USR1
(trap '' HUP; kill -HUP $BASHPID; echo ignored HUP)

section here-documents
name=world
cat <<EOF
hello $name
sum $((2 + 3))
EOF
cat <<'EOF'
no $expansion $(here)
EOF
sed 's/^/> /' <<-EOF
	tabs are stripped
EOF
tr a-z A-Z <<< "here string"

section redirections
folder=$(mktemp -d)
cd "$folder" || exit 1
echo first > file
echo second >> file
cat < file
{ echo out; echo err >&2; } > both 2>&1
cat both
exec 3> third
echo through three >&3
exec 3>&-
cat third
ls nothing 2> /dev/null || echo "no such file"
: > empty
[ -s empty ] || echo empty indeed
set -o noclobber
(echo x > file) 2> /dev/null || echo not clobbered
set +o noclobber
mkfifo fifo
for n in $(seq 30); do (echo "through the fifo $n" > fifo) & cat fifo; wait; done | cksum
diff <(printf 'a\nb\n') <(printf 'a\nc\n')
echo "diff says $?"

section files
for n in $(seq 1 20); do echo "content $n" > "f$n"; done
ls f* | wc -l | tr -d ' '
cat f1 f10 f20
rm f?
ls f* | sort | head -3
mkdir -p a/b/c && touch a/b/c/leaf && find a | sort
ln -s leaf a/b/c/link && readlink a/b/c/link
cp -r a d && find d -type f
mv d e && [ -d e ] && echo moved
md5sum f10 | cut -d ' ' -f 1
chmod 600 f10 && stat -c '%a %s' f10
cd / && rm -r "$folder" && [ ! -e "$folder" ] && echo gone

section arithmetic and strings
echo $((16#ff)) $((2 ** 20)) $((7 % 3)) $((1 << 10))
s="a longer string"
echo "${#s} ${s:2:6} ${s/longer/short} ${s^^} ${s%string} ${s#a }"
array=(x y z)
array+=(w)
echo "${array[*]} ${#array[@]} ${array[@]:1:2}"
[[ abc123 =~ ^([a-z]+)([0-9]+)$ ]] && echo "${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
case banana in a*) echo a;; b*n*) echo b and n;; *) echo other;; esac
printf '%05d %x %s\n' 42 255 text
i=0; until [ $i -ge 3 ]; do i=$((i + 1)); printf '%d ' $i; done; echo

section coprocesses
coproc ECHO { while read -r line; do echo "echo: $line"; done; }
to=${ECHO[1]} from=${ECHO[0]} coprocess=$ECHO_PID
for word in hello again; do
    echo "$word" >&"$to"
    read -r reply <&"$from"
    echo "$reply"
done
exec {to}>&-
wait "$coprocess" 2> /dev/null
echo "coprocess ended"

section failures
set -o pipefail
false | true; echo "pipefail $?"
set +o pipefail
false | true; echo "without $?"
nosuchcommand 2> /dev/null; echo "not found $?"
(set -e; false; echo not reached); echo "errexit $?"
(set -u; : "$undefined_variable") 2> /dev/null; echo "nounset $?"
timeout 0.2 sleep 5; echo "timeout $?"
/bin/true; echo $?; /bin/false; echo $?
{ bash -c 'kill -SEGV $$'; } 2> /dev/null; echo "signal $?"

section configure
for program in sh sed grep nosuchprogram; do
    if command -v "$program" > /dev/null; then echo "checking for $program... yes"; else echo "checking for $program... no"; fi
done
eval "setting='from eval'"; echo "$setting"
test_number() { expr "$1" : '[0-9]*$' > /dev/null && echo "$1 is a number" || echo "$1 is not"; }
test_number 12; test_number 1x
echo 'prefix=@prefix@' | sed "s|@prefix@|/usr/local|"
getopts_test() { while getopts ab: option; do echo "$option ${OPTARG-}"; done; }
getopts_test -a -b value

section functions
fib() { local n=$1; if [ "$n" -lt 2 ]; then echo "$n"; else echo $(($(fib $((n - 1))) + $(fib $((n - 2))))); fi; }
fib 9
hanoi() {
    [ "$1" -eq 0 ] && return
    hanoi $(($1 - 1)) "$2" "$4" "$3"
    echo "$1 from $2 to $3"
    hanoi $(($1 - 1)) "$4" "$3" "$2"
}
hanoi 3 a b c | cksum
collatz() { local n=$1 steps=0; while [ "$n" -ne 1 ]; do n=$((n % 2 ? 3 * n + 1 : n / 2)); steps=$((steps + 1)); done; echo $steps; }
(collatz 27) | { read -r steps; echo "27 takes $steps"; }
produce() { for n in 1 2 3; do echo "$1$n"; done; }
paste <(produce a) <(produce b) <(produce c)
outer() { inner() { echo "inner sees $v"; }; local v=local; inner; }
v=global; outer; echo "then $v"

section long pipelines
seq 1000 | sed 's/$/ x/' | grep -v 5 | cut -d ' ' -f 1 | sort -n | tail -1
seq 10 | while read -r n; do echo $((n * n)); done | sort -rn | head -3 | paste -sd , | sed 's/,/ > /g'
for round in 1 2 3; do seq "$round" | cat | cat | cat | wc -l | tr -d ' '; done

section many
for i in $(seq 60); do /bin/true || echo failed; done
total=0; for i in $(seq 20); do total=$((total + $(echo "$i"))); done; echo "total $total"
section end

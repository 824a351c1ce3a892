"""What every agent calls all day: the shell, files, archives, search."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..desks import Desk


def test_the_inside_half_is_inside(desk: Desk) -> None:
    beside = desk.base / "beside.txt"
    beside.write_text("not in the policy\n")
    beside.chmod(0o644)
    assert desk.run("outside", ["cat", str(beside)]).out == "not in the policy\n"
    inside = desk.run("inside", ["cat", str(beside)])
    assert (inside.code, inside.out) == (1, "")
    assert "No such file or directory" in inside.err


def test_the_work_directory_holds_what_the_program_left_there_and_nothing_else(
    desk: Desk,
) -> None:
    desk.agree("sh", "-c", "echo made > made.txt")
    for side in ("outside", "inside"):
        (made,) = desk.folder(side).iterdir()
        assert made.read_text() == "made\n"
        assert (made.stat().st_uid, made.stat().st_gid) == (desk.user.uid, desk.user.gid)


def test_a_shell_pipeline_with_temporary_files(desk: Desk) -> None:
    desk.write("words.txt", "pear\napple\nfig\napple\n" * 2000)
    desk.write(
        "script.sh",
        """set -eu
sort -T /tmp words.txt | uniq -c | awk '{ print $2, $1 }'
scratch=$(mktemp)
trap 'rm -f "$scratch"' EXIT
seq 1000 | xargs -n 50 -P 4 echo | wc -w
gzip -c words.txt > "$scratch" && zcat "$scratch" | cksum
sed -i s/fig/plum/ words.txt && grep -c plum words.txt
cp words.txt copy.txt && echo more >> copy.txt && ! diff -q words.txt copy.txt > /dev/null
diff -u words.txt copy.txt | patch -s words.txt && cmp words.txt copy.txt
mkfifo pipe && (echo through a pipe > pipe &) && cat pipe
find . -name '*.txt' | sort
date -u -d @0 +%Y; nproc > /dev/null; id -u > /dev/null; df . > /dev/null; free > /dev/null
cat < /dev/null; head -c 8 /dev/urandom | wc -c; echo lost > /dev/full 2>&1 || echo full
""",
    )
    out = desk.agree("bash", "script.sh")
    assert "apple 4000" in out
    assert out.endswith("8\nfull\n")


def test_a_script_in_tmp_can_be_executed(desk: Desk) -> None:
    desk.write(
        "script.sh",
        "printf '#!/bin/sh\\necho ran\\n' > /tmp/s && chmod +x /tmp/s && /tmp/s && rm /tmp/s\n",
    )
    assert desk.agree("sh", "script.sh") == "ran\n"


def test_standard_input_reaches_the_program(desk: Desk) -> None:
    assert desk.agree("tr", "a-z", "A-Z", stdin="one\ntwo\n") == "ONE\nTWO\n"


def test_tar_keeps_modes_links_and_times(desk: Desk) -> None:
    desk.write("tree/tool.sh", "#!/bin/sh\necho tool\n", 0o755)
    desk.write("tree/private/notes", "mine\n", 0o640)
    desk.write(
        "script.sh",
        """set -eu
ln -s ../private/notes tree/link && ln tree/tool.sh tree/hard && touch -d 2001-02-03 tree/tool.sh
tar -czf tree.tgz tree && mkdir out && tar -xzpf tree.tgz -C out
cd out && find tree -printf '%p %M %n %l %TY-%Tm-%Td\\n' | grep -v '^tree d' | sort | grep -v ' d'
""",
    )
    out = desk.agree("bash", "script.sh")
    assert "tree/tool.sh -rwxr-xr-x 2  2001-02-03" in out
    assert "tree/private/notes -rw-r-----" in out
    assert "../private/notes" in out


def test_ripgrep_searches_and_honours_gitignore(desk: Desk) -> None:
    desk.needs("rg")
    for number in range(200):
        desk.write(f"src/module{number}.py", f"value = {number}\nneedle = True\n")
    desk.write(".ignore", "build\n")
    desk.write("build/generated.py", "needle = False\n")
    out = desk.agree("rg", "--sort", "path", "--count", "needle", ".")
    assert len(out.splitlines()) == 200
    assert "generated" not in out


def test_perl_forks_and_pipes(desk: Desk) -> None:
    desk.needs("perl")
    desk.write(
        "count.pl",
        """use strict; use warnings; use File::Temp; use POSIX ();
my $file = File::Temp->new; print $file "a b\\nc\\n"; close $file;
open(my $words, '-|', 'wc', '-w', $file->filename) or die "wc: $!";
print((split ' ', <$words>)[0], "\\n");
my $pid = fork // die "fork: $!"; POSIX::_exit(7) unless $pid;
waitpid $pid, 0; print $? >> 8, "\\n";
""",
    )
    assert desk.agree("perl", "count.pl") == "3\n7\n"


def test_ssh_keygen_makes_and_reads_a_key(desk: Desk) -> None:
    desk.needs("ssh-keygen")
    desk.write(
        "script.sh",
        """set -eu
ssh-keygen -q -t ed25519 -N '' -C agent -f key
ssh-keygen -l -f key.pub | awk '{ print $1, $3, $4 }'
stat -c %a key
echo text > text && ssh-keygen -q -Y sign -f key -n file text
echo "agent $(cat key.pub)" > signers
ssh-keygen -q -Y verify -f signers -I agent -n file -s text.sig < text && echo verified
""",
    )
    assert desk.agree("sh", "script.sh") == "256 agent (ED25519)\n600\nverified\n"


def test_sqlite_with_a_write_ahead_log(desk: Desk) -> None:
    desk.needs("sqlite3")
    script = (
        "PRAGMA journal_mode=WAL; CREATE TABLE t(n); BEGIN; "
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<5000) "
        "INSERT INTO t SELECT n FROM c; COMMIT; SELECT sum(n) FROM t; "
        "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA integrity_check;"
    )
    assert desk.agree("sqlite3", "data.db", script) == "wal\n12502500\n0|0|0\nok\n"


def test_the_exit_status_is_the_programs(desk: Desk) -> None:
    for side in ("outside", "inside"):
        assert desk.run(side, ["sh", "-c", "exit 42"]).code == 42

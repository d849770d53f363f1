"""perl: a hash and an array of strings that grow and shrink."""

from __future__ import annotations

from oomguard.learn.lab.programs._orders import STEP_BYTES, OrderedProgram

SCRIPT = r"""
my ($seed, $step) = @ARGV;
srand($seed);
$| = 1;
my $pool = join '', map { sprintf("user=%07d;state=ok;", $_) . pack('N5', map { rand(4294967296) } 1 .. 5) } 1 .. 14000;
my $middle = 10 ** (2 + rand(2.3));
my $share = rand();                             # of what goes into the hash
my (%table, @rows, @names);
my $large_share = 0.2 + rand(0.7);
my ($held, $count, $large) = (0, 0, 0);

sub piece { my $size = shift; return substr($pool, int(rand(length($pool) - $size)), $size) }

print "ready\n";
while (my $line = <STDIN>) {
    my ($want, $keep, $churn) = split ' ', $line;
    my $stop = $want < $held + $step ? $want : $held + $step;
    while ($held < $stop) {
        my $size = 16 + int($middle * (0.3 + rand(1.4)));
        if ($large < $large_share * $held) {        # goes back to the system when dropped
            $size = 140000 + int(rand(100000));
            $large += $size;
        }
        if (rand() < $share) {
            my $name = sprintf('key:%09d', ++$count);
            $table{$name} = piece($size);
            push @names, $name;
        } else {
            push @rows, piece($size);
            push @names, undef;
        }
        $held += $size + 150;
    }
    while ($held > $want && @names) {
        my $name = pop @names;
        my $value = defined $name ? delete $table{$name} : pop @rows;
        $held -= length($value) + 150;
        $large -= length($value) if length($value) >= 140000;
    }
    for (; $churn > 0; $churn -= 8000) {
        my $work = join ',', sort split /;/, piece(4000);
    }
    printf "%d 0\n", $held < $want ? $held : $want;
}
"""


class Driver(OrderedProgram):
    """Drives it."""

    # Measured, perl 5.36 in a v1 cgroup: 3.7 MiB, 0.98 to 1.14; dropped small strings stay its own.
    base_bytes = 3.7 * (1 << 20)
    charge_ratio = 1.02
    needs = ("perl",)

    def command(self) -> list[str]:
        """Return the call with the script."""
        return ["perl", "-e", SCRIPT, str(self.spec.seed), str(STEP_BYTES)]

    def environment(self) -> dict[str, str]:
        """Return settings: the C library's bound for what is given back at once stays where it is."""
        return {"MALLOC_MMAP_THRESHOLD_": "131072"}

# Runs in a node (perl -e TEXT [PROC]) and reads the memory of the processes there. One request a
# line; each answer is u32 length, little-endian, then as many bytes; the highest bit: an error.
#
#   snap MICROSECONDS                       after so many: changed regions, ended processes; new ones
#                                           too, unless the pause is a short one
#   watch PID ADDRESS LENGTH AT HEX         from now on read this region of this process, if its
#                                           memory at AT holds these bytes
#   unwatch PID
#   identify PID
#   read OFFSET LENGTH PATH
#   list BEGINNING DIRECTORY                 names that begin so, at most 20000
#
# snap, watch and identify answer with lines, an empty line, and the bytes of these lines in turn:
#   new PID STARTED STACK INNER CONTAINER DEVICE INODE SIZE MTIME
#   data PID LENGTH                         the whole region
#   part PID COUNT LENGTH                   the blocks of it that changed: u32, little-endian, the
#                                           number of each, and then as many bytes
#   gone PID
# Only what perl-base has is used: Kind's nodes have no more.
use strict;
use warnings;
use Fcntl;

my $proc  = shift // '/proc';
my $limit = 64 << 20;
# Bytes. Of 131 KB one request of a service with the standard library covered changes 3 KB, here and
# there: 30 KB of blocks. To send all takes 0.3 ms longer; smaller blocks take longer to gather.
my $block = 256;
# Microseconds. Whoever waits so short a time has just had a reading, which looked for new processes.
my $soon = 10_000;
my (%watch, %exe, %host, %born, %loose);
my ($newest, $again, $scanned, $load) = ('', 1, 0);

sub slurp {
    open my $file, '<:raw', $_[0] or return '';
    sysread $file, my $text, 1 << 16;
    return $text // '';
}

my $own = '';

sub container {
    my @found = grep { $_ ne $own } slurp("$proc/$_[0]/cgroup") =~ /(?<![0-9a-f])([0-9a-f]{64})(?![0-9a-f])/g;
    return @found ? $found[-1] : '';
}
# The node's own id, where the cgroup namespace is the host's. Its first process is not in a pod, as
# this may be.
$own = container(1);

sub exe {
    my @stat = stat "$proc/$_[0]/exe" or return '';
    return "@stat[0, 1, 7, 9]";
}

# Of /proc/PID/stat: parent, start time, start of the stack, which is another one after an exec.
sub facts {
    my ($rest) = slurp("$proc/$_[0]/stat") =~ /.*\) (.*)/s or return;
    return (split ' ', $rest)[1, 19, 25];
}

# The last process id that the kernel gave, while it can be told.
sub newest {
    if (!$load) {
        open my $file, '<:raw', "$proc/loadavg" or return;
        $load = $file;
    }
    sysseek $load, 0, 0 or return;
    sysread $load, my $text, 1 << 10 or return;
    return $text =~ /(\d+)\s*$/;
}

# Whole seconds since a process was started.
sub age {
    my (undef, $started) = facts($_[0]);
    my ($uptime) = slurp("$proc/uptime") =~ /^(\d+)/;
    return defined $started && defined $uptime ? int($uptime - $started / 100) : 0;
}

sub describe {
    my ($pid, $id, $exe, $started, $stack) = @_;
    my ($inner) = slurp("$proc/$pid/status") =~ /^NSpid:.*?(\d+)$/m or return '';
    return join(' ', 'new', $pid, $started, $stack, $inner, $id || '-', $exe) . "\n";
}

sub identify {
    my ($pid) = @_;
    my (undef, $started, $stack) = facts($pid);
    my $exe = exe($pid);
    my $line = $exe && defined $stack && describe($pid, container($pid), $exe, $started, $stack);
    return $line || die "gone\n";
}

# A look at 100 processes costs 0.8 ms. All are looked at once a second. Besides, only new ones and
# those that may become a container's program by exec: young ones, of containers and runc's. Nor is
# there a new one while the last process id that the kernel gave is the same; but for one more time
# after it changed, as the id is given before the process can be seen.
sub scan {
    my $now = time;
    my ($last) = newest();
    my $all  = $now != $scanned;
    my @pids = keys %loose;
    if ($again || !defined $last || $last ne $newest || $all) {
        $again = !defined $last || $last ne $newest;
        $newest = $last // '';
        opendir my $directory, $proc or die "$proc: $!\n";
        @pids = grep { /^[0-9]+$/ } readdir $directory;
        my %here;
        @here{@pids} = ();
        @pids = grep { !exists $born{$_} || $loose{$_} } @pids if !$all;
        $scanned = $now;
        for my $pid (grep { !exists $here{$_} } keys %born) {
            delete $_->{$pid} for \%exe, \%host, \%born, \%loose;
        }
    }
    my $lines = '';
    for my $pid (@pids) {
        next if $watch{$pid};
        my $exe   = exe($pid);
        my $age   = $now - ($born{$pid} //= $now - age($pid));
        if (defined $exe{$pid} && $exe{$pid} eq $exe) {
            if ($age > 10) { delete $loose{$pid}; next }
            next if !$host{$pid} || !$all;
        }
        my $id = $exe ? container($pid) : '';
        if ($id eq '') {
            $exe{$pid}  = $exe;
            $host{$pid} = 1;
            $loose{$pid} = 1 if $age <= 10;
            next;
        }
        $loose{$pid} = 1;
        delete $host{$pid};
        delete $exe{$pid};
        my ($parent, $started, $stack) = facts($pid) or next;
        # Between vfork and exec a child has its parent's memory: its counters are not its own.
        my (undef, undef, $above) = facts($parent);
        next if defined $above && $above eq $stack && $age <= 1 && exe($parent) eq $exe;
        my $line = describe($pid, $id, $exe, $started, $stack) or next;
        $lines .= $line;
        $exe{$pid} = $exe;
    }
    return $lines;
}

# The bytes at an address; shorter, or none, when the process has ended or become another program.
sub peek {
    my ($memory, $address, $length) = @_;
    my $data = '';
    sysseek $memory, $address, 0 or return '';
    while (length $data < $length) {
        sysread $memory, $data, $length - length $data, length $data or last;
    }
    return $data;
}

sub forget {
    my ($pid) = @_;
    delete $watch{$pid};
    delete $exe{$pid};
    $loose{$pid} = 1;
}

# The numbers of the blocks in which a string differs from one as long, and these blocks.
sub changed {
    my ($now, $last) = @_;
    my $differs = $now ^ $last;
    my ($numbers, $blocks) = ('', '');
    while ($differs =~ /[^\0]/g) {
        my $number = int $-[0] / $block;
        $numbers .= pack 'V', $number;
        $blocks .= substr $now, $number * $block, $block;
        my $behind = ($number + 1) * $block;
        last if $behind >= length $now;
        pos($differs) = $behind;
    }
    return ($numbers, $blocks);
}

sub snap {
    my ($pause) = @_;
    select undef, undef, undef, $pause / 1e6 if $pause;
    my ($lines, $blobs) = ('', '');
    for my $pid (keys %watch) {
        my $one = $watch{$pid};
        my $data = peek($one->{memory}, $one->{address}, $one->{length});
        if (length $data < $one->{length}) {
            $lines .= "gone $pid\n";
            forget($pid);
        } elsif ($data ne $one->{last}) {
            my ($numbers, $blocks) = changed($data, $one->{last});
            $lines .= "part $pid " . length($numbers) / 4 . ' ' . length($blocks) . "\n";
            $blobs .= $numbers . $blocks;
            $one->{last} = $data;
        }
    }
    $lines .= scan() if $pause > $soon || !$pause || !$scanned;
    return "$lines\n$blobs";
}

sub watch {
    my ($pid, $address, $length, $at, $hex) = @_;
    die "too long\n" if $length > $limit;
    open my $memory, '<:raw', "$proc/$pid/mem" or die "gone\n";
    peek($memory, $at, length($hex) / 2) eq pack('H*', $hex) or die "differs\n";
    my $data = peek($memory, $address, $length);
    length $data == $length or die "gone\n";
    my $line = identify($pid);
    # The process could have become another program before that.
    length peek($memory, $address, 4) or die "gone\n";
    $watch{$pid} = { memory => $memory, address => $address, length => $length, last => $data };
    return "${line}data $pid $length\n\n$data";
}

# A pod may leave anything where coverage files are expected: a fifo must not stop us, nor a link
# lead us elsewhere.
sub fetch {
    my ($offset, $length, $path) = @_;
    die "too long\n" if $length > $limit;
    my $links = index($path, "$proc/") == 0 ? 0 : O_NOFOLLOW;
    sysopen my $file, $path, O_RDONLY | O_NONBLOCK | $links or die "$path: $!\n";
    -f $file or die "$path: not a file\n";
    return peek($file, $offset, $length);
}

sub list {
    my ($beginning, $path) = @_;
    opendir my $directory, $path or return '';
    my ($lines, $count) = ('', 0);
    while (defined(my $name = readdir $directory)) {
        next if $name =~ /\n/ || index($name, $beginning) != 0;
        lstat "$path/$name" or next;
        next if !-f _;
        last if ++$count > 20000;
        $lines .= (-s _ || 0) . " $name\n";
    }
    return $lines;
}

sub obey {
    my ($line) = @_;
    my $n = '([0-9]{1,15})';
    return snap($1) if $line =~ /^snap $n$/;
    return watch($1, $2, $3, $4, $5) if $line =~ /^watch $n $n $n $n ((?:[0-9a-f]{2}){1,64})$/;
    return identify($1) . "\n" if $line =~ /^identify $n$/;
    if ($line =~ /^unwatch $n$/) {
        forget($1) if $watch{$1};
        return '';
    }
    return fetch($1, $2, $3) if $line =~ m{^read $n $n (/.+)$};
    return list($1, $2) if $line =~ m{^list ([a-z.]*) (/.+)$};
    die "not a request\n";
}

my $input = '';
while (sysread STDIN, $input, 1 << 16, length $input) {
    while ($input =~ s/^([^\n]*)\n//) {
        my $answer = eval { obey($1) };
        my $flag = 0;
        ($answer, $flag) = ("$@", 1 << 31) if !defined $answer;
        $answer = pack('V', length($answer) | $flag) . $answer;
        my $done = 0;
        while ($done < length $answer) {
            $done += syswrite(STDOUT, $answer, 1 << 20, $done) // exit;
        }
    }
    exit if length $input > 1 << 16;
}

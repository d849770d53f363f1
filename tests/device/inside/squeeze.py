"""Take the machine's memory until the kernel kills: by then no page is left that the kernel could have taken."""

with open("/proc/self/oom_score_adj", "w") as file:
    file.write("1000")
taken = []
while True:
    taken.append(bytearray(b"x") * (1 << 20))

from torch import nn


class M(nn.Module):
    def __init__(s):
        super().__init__()
        s.r = nn.GRU(4, 3, batch_first=True)
        s.o = nn.Linear(3, 3)
        s.hid = None

    def forward(s, x):
        o, s.hid = s.r(x, s.hid if s.hid is not None and s.hid.shape[1] == len(x) else None)
        return s.o(o[:, -1])


def make():
    return M()

"""NCCL: solvers of several processes, each on a GPU of its own, that train one net.

    # in each process, with the same uid = caffe.NCCL.new_uid() of the one that started them
    caffe.set_device(gpus[rank])
    caffe.set_mode_gpu()
    caffe.set_solver_count(len(gpus))
    caffe.set_solver_rank(rank)
    solver = caffe.get_solver("solver.prototxt")
    nccl = caffe.NCCL(solver, uid)
    nccl.bcast()
    solver.add_callback(nccl)
    solver.net.after_backward(nccl)  # for means that are computed beside the backward pass
    solver.step(solver.param.max_iter)

The processes are those of one machine; a script starts them, for example with multiprocessing.
"""

from __future__ import annotations

from caffetools.engine import devices
from caffetools.glog import fatal
from caffetools.pycaffe.parallel import ranks
from caffetools.pycaffe.solver import Solver


def has_nccl() -> bool:
    """Return whether processes can train together on GPUs."""
    return not _why_not()


class NCCL:
    """Lets the solvers of several processes train one net: that of rank 0, by the means of all gradients.

    solver: of this process. uid: what `new_uid` has returned, the same in all processes; each makes one of these, and
    goes on when all have.

    It goes to `Solver.add_callback`, and to `Net.after_backward` where the means of a layer are to be started once
    its gradients are there. When one process fails or is killed, all end.

    Errors: FatalError with what is missing, and when a process does not come.
    """

    follows_gradients = True

    def __init__(self, solver: Solver, uid: bytes):
        _check()
        training = solver._solver
        net = training.net
        if net.context.engine is None:
            fatal("Cannot use NCCL: the solver computes on the CPU. Call set_mode_gpu() before it is built.")
        rank, count = ranks()
        group = training.group
        if count > 1:
            from caffetools.engine import rendezvous

            group = training.group = rendezvous.join(uid, rank, count)
        from caffetools.solver.exchange_cu import GradientExchange

        self._exchange = GradientExchange(net, group, training.param.iter_size)
        self.on_start = self._exchange.on_start
        self.on_gradients_ready = self._exchange.on_gradients_ready

    @staticmethod
    def new_uid() -> bytes:
        """Return what processes that are to train together need to find each other. Errors: as for the class."""
        _check()
        from caffetools.engine import rendezvous

        return rendezvous.new_key()

    def bcast(self) -> None:
        """Give all processes the parameters of rank 0; all call this."""
        self._exchange.broadcast()

    def __call__(self, layer: int) -> None:
        """Start the means that the gradients of the layers from this one on were missing for."""
        self._exchange.gradients_done(layer)


def _why_not():
    return devices.why_no_gpu() or devices.why_not_several()


def _check():
    why = _why_not()
    if why:
        fatal(f"Cannot use NCCL: {why}. has_nccl() says so; train on the CPU without it.")

/* sendto(2) and recvmsg(2) on media sockets, without letting go of the interpreter.
 *
 * As system_calls.py tells, and has without a compiler. Sockets are read and written here only
 * from the thread of the event loop, and never wait (MSG_DONTWAIT).
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define MAX_DATAGRAM 2048

static int
descriptor(PyObject *number, int *fd)
{
    long value = PyLong_AsLong(number);
    if (value == -1 && PyErr_Occurred()) {
        return 0;
    }
    if (value < -1 || value > 0x7fffffffL) {
        PyErr_SetString(PyExc_ValueError, "no file descriptor");
        return 0;
    }
    *fd = (int)value;
    return 1;
}

static PyObject *
send_datagram(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int fd;
    if (count != 3 || !PyBytes_Check(args[1]) || !PyBytes_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "send takes a file descriptor, data and a sockaddr");
        return NULL;
    }
    if (!descriptor(args[0], &fd)) {
        return NULL;
    }
    ssize_t sent = sendto(fd, PyBytes_AS_STRING(args[1]), (size_t)PyBytes_GET_SIZE(args[1]),
                          MSG_DONTWAIT | MSG_NOSIGNAL,
                          (const struct sockaddr *)PyBytes_AS_STRING(args[2]),
                          (socklen_t)PyBytes_GET_SIZE(args[2]));
    return PyBool_FromLong(sent >= 0);
}

static double
arrival(struct msghdr *message)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SO_TIMESTAMPNS &&
            part->cmsg_len >= CMSG_LEN(sizeof(struct timespec))) {
            struct timespec stamp;
            memcpy(&stamp, CMSG_DATA(part), sizeof stamp);
            return (double)stamp.tv_sec + (double)stamp.tv_nsec * 1e-9;
        }
    }
    return 0.0;
}

static PyObject *
receive_datagram(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int fd;
    if (count != 2 || !PyBytes_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "receive takes a file descriptor and a sockaddr");
        return NULL;
    }
    if (!descriptor(args[0], &fd)) {
        return NULL;
    }
    char data[MAX_DATAGRAM];
    struct sockaddr_storage name;
    union {
        struct cmsghdr aligned;
        char room[CMSG_SPACE(sizeof(struct timespec))];
    } control;
    struct iovec vector = {.iov_base = data, .iov_len = sizeof data};
    struct msghdr message = {
        .msg_name = &name,
        .msg_namelen = sizeof name,
        .msg_iov = &vector,
        .msg_iovlen = 1,
        .msg_control = control.room,
        .msg_controllen = sizeof control.room,
    };
    ssize_t size = recvmsg(fd, &message, MSG_DONTWAIT);
    if (size < 0) {
        Py_RETURN_NONE;
    }
    PyObject *source = args[1];
    if (PyBytes_GET_SIZE(source) == (Py_ssize_t)message.msg_namelen &&
        memcmp(PyBytes_AS_STRING(source), &name, message.msg_namelen) == 0) {
        Py_INCREF(source);
    }
    else {
        source = PyBytes_FromStringAndSize((const char *)&name, message.msg_namelen);
    }
    PyObject *bytes = PyBytes_FromStringAndSize(data, size);
    PyObject *stamp = PyFloat_FromDouble(arrival(&message));
    PyObject *all = PyTuple_New(3);
    if (source == NULL || bytes == NULL || stamp == NULL || all == NULL) {
        Py_XDECREF(source);
        Py_XDECREF(bytes);
        Py_XDECREF(stamp);
        Py_XDECREF(all);
        return NULL;
    }
    PyTuple_SET_ITEM(all, 0, bytes);
    PyTuple_SET_ITEM(all, 1, stamp);
    PyTuple_SET_ITEM(all, 2, source);
    return all;
}

static PyMethodDef methods[] = {
    {"send", (PyCFunction)(void (*)(void))send_datagram, METH_FASTCALL,
     "send(fd, data, name, /): see SystemCalls.send"},
    {"receive", (PyCFunction)(void (*)(void))receive_datagram, METH_FASTCALL,
     "receive(fd, known, /): see SystemCalls.receive"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_system_calls",
    .m_doc = "Datagrams without letting go of the interpreter.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__system_calls(void)
{
    return PyModuleDef_Init(&module);
}

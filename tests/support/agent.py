# Does what it is told, a line of JSON at a time: code to run, and an expression whose value is the answer.
import json, os, socket, sys, threading

socket.setdefaulttimeout(20)


def rename(name):
    with open("/proc/self/comm", "wb") as comm:
        comm.write(name.encode("latin-1"))


def become(name):
    # By a link: what a process is called after execve() is the file's name.
    os.symlink(sys.executable, name)
    os.execv(name, [name, __file__])


def become_in_a_thread(name):
    threading.Thread(target=become, args=(name,)).start()
    threading.Event().wait()


print('"ready"', flush=True)
while line := sys.stdin.readline():
    order = json.loads(line)
    exec(order["run"])
    print(json.dumps(eval(order["give"])), flush=True)

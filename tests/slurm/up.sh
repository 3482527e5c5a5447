#!/bin/bash
# Starts a Slurm of one node for `make test-slurm`, without systemd and without accounting; as root, on Debian or Ubuntu.
# Its two GPUs are device files that stand for nothing: Slurm hands them out, no program can use them.
set -euo pipefail
if ! { command -v sbatch && command -v munged; } > /dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm slurmd slurmctld slurm-client munge
fi
if sinfo --noheader 2> /dev/null | grep -qE 'idle|mix|alloc'; then exit; fi

install -d -o munge -g munge -m 0755 /run/munge /var/log/munge /var/lib/munge
if [ ! -s /etc/munge/munge.key ]; then head -c 1024 /dev/urandom > /etc/munge/munge.key; fi
chown munge:munge /etc/munge/munge.key
chmod 400 /etc/munge/munge.key
pgrep -x munged > /dev/null || runuser -u munge -- /usr/sbin/munged

host=$(hostname -s)
install -d /etc/slurm /var/spool/slurmctld /var/spool/slurmd /var/log/slurm /var/spool/slurmd/gpus
for k in 0 1; do
    if [ ! -e /var/spool/slurmd/gpus/nvidia$k ]; then mknod /var/spool/slurmd/gpus/nvidia$k c 1 3; fi # as /dev/null
done
cat > /etc/slurm/gres.conf << CONF
AutoDetect=off
NodeName=$host Name=gpu File=/var/spool/slurmd/gpus/nvidia0
NodeName=$host Name=gpu File=/var/spool/slurmd/gpus/nvidia1
CONF
cat > /etc/slurm/slurm.conf << CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
MaxArraySize=101
GresTypes=gpu
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
CONF
pgrep -x slurmctld > /dev/null || /usr/sbin/slurmctld
sleep 1
pgrep -x slurmd > /dev/null || /usr/sbin/slurmd
for _ in $(seq 40); do
    if sinfo --noheader 2> /dev/null | grep -qE 'idle|mix|alloc'; then exit; fi
    sleep 0.5
done
echo "Slurm did not start; see /var/log/slurm" >&2
exit 1

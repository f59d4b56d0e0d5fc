#!/usr/bin/env bash
# Scheduler and program as a SLURM job of their own, so that nothing runs on the login node:
#
#   sbatch deploy/slurm/job.sh --jobs 4 examples/particles.py --address {address}
#
# Submit it from the repository's folder, with the Python environment active and DASK_CONFIG set; SLURM hands
# both on.  Its arguments are those of run.py.
#SBATCH --job-name=paradual-program
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=02:00:00
#SBATCH --signal=B:TERM@60
set -euo pipefail

: "${DASK_CONFIG:?name the TLS settings that deploy/tls/make-certificates.sh makes: FOLDER/dask.yaml}"

# In the background: the signal before the time limit is passed on, and the workers' jobs are cancelled.
python "${SLURM_SUBMIT_DIR:-.}/deploy/slurm/run.py" "$@" &
trap 'kill -TERM $!' TERM INT
status=0
wait $! || status=$?
if [ "$status" -gt 128 ]; then # a signal ended the wait, not the program
    status=0
    wait $! || status=$?
fi
exit "$status"

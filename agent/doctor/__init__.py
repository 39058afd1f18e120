"""What may be wrong with an agent, looked for from outside it: files, network, machine. Changes nothing."""

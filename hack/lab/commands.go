package main

func allCommands() []command {
	return []command{
		{"up", "builds what is missing, starts what is not running, waits until all is ready", runUp},
		{"down", "stops a lab and removes all it put into this machine", runDown},
		{"status", "shows which labs run and how their programs fare", runStatus},
		{"env", "prints shell lines after which kubectl and istioctl reach the lab", runEnv},
		{"exec", "runs a program of this machine inside the lab's network", runExec},
		{"load", "gives the lab a container image from a tar archive", runLoad},
		{"image", "builds the operator's image as a tar archive", runImage},
		{"logs", "shows what one of the lab's programs says", runLogs},
		{"build", "builds what is missing and starts nothing", runBuild},
		{"prune", "removes what was built for other versions and no lab runs on", runPrune},
		{"assets", "prints a directory for KUBEBUILDER_ASSETS", runAssets},
	}
}
